"""Where results go: nothing is lost, nothing shares a name, earlier results are not enlarged again."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.outputs import Job, plan


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.PNG", "sub/a.jpg", "sub/.hidden.jpg", "notes.txt", "c.svg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    return tmp_path / "in"


def outs(paths: list[Path], root: Path, **options: object) -> list[str]:
    jobs = plan(paths, ending="_x4", log=lambda text: None, **options)  # pyright: ignore[reportArgumentType]
    return sorted(job.out.relative_to(root).as_posix() for job in jobs)


def test_beside_the_photograph_or_its_folder(folder: Path, tmp_path: Path) -> None:
    assert outs([folder / "a.jpg"], tmp_path) == ["in/a_x4.png"]
    assert outs([folder], tmp_path) == ["in_x4/a_x4.png", "in_x4/b_x4.png"]
    assert outs([folder], tmp_path, recursive=True) == ["in_x4/a_x4.png", "in_x4/b_x4.png", "in_x4/sub/a_x4.png"]


def test_a_jpeg_by_other_names_is_one_and_what_is_left_out_is_named(folder: Path) -> None:
    for name in ("d.jfif", "e.JPE", "f.CR2", "g.psd"):
        (folder / name).touch()
    said: list[str] = []
    jobs = plan([folder], ending="_x4", format="same", log=said.append)
    assert [job.out.name for job in jobs] == ["a_x4.jpg", "b_x4.png", "d_x4.jpg", "e_x4.jpg"]
    assert said[0].endswith("not read, because of their format: c.svg, f.CR2, g.psd")


def test_out_is_a_folder_or_a_file(folder: Path, tmp_path: Path) -> None:
    assert outs([folder], tmp_path, out=tmp_path / "o") == ["o/a_x4.png", "o/b_x4.png"]
    assert outs([folder / "a.jpg"], tmp_path, out=tmp_path / "o.webp") == ["o.webp"]
    assert outs([folder, folder / "sub"], tmp_path, out=tmp_path / "o") == [
        *("o/in/a_x4.png", "o/in/b_x4.png", "o/sub/a_x4.png")
    ]
    with pytest.raises(ValueError, match=r"`out` .*one file"):
        outs([folder], tmp_path, out=tmp_path / "o.webp")
    with pytest.raises(ValueError, match="the photograph itself"):
        outs([folder / "a.jpg"], tmp_path, out=folder / "a.jpg")
    with pytest.raises(ValueError, match="ends otherwise than `format` png"):
        outs([folder / "a.jpg"], tmp_path, out=tmp_path / "o.webp", format="png")


def test_the_format_gives_the_suffix(folder: Path, tmp_path: Path) -> None:
    assert outs([folder], tmp_path, format="same") == ["in_x4/a_x4.jpg", "in_x4/b_x4.png"]
    assert outs([folder], tmp_path, format="tiff") == ["in_x4/a_x4.tif", "in_x4/b_x4.tif"]


def test_no_two_photographs_share_a_result(folder: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.png.png", "A.bmp"):
        (folder / name).touch()
    found = outs([folder], tmp_path)
    assert len(found) == len(set(found)) == 5
    with pytest.raises(ValueError, match="would both become"):
        outs([folder / "a.jpg", folder / "sub/a.jpg"], tmp_path, out=tmp_path / "o")
    assert outs([folder / "b.PNG", folder / "b.PNG"], tmp_path) == ["in/b_x4.png"]


def test_earlier_results_are_no_photographs(folder: Path, tmp_path: Path) -> None:
    for name in ("a_x4.png", "b_x4_001.png", "own_x4.png"):
        (folder / name).touch()
    said: list[str] = []
    jobs = plan([folder], ending="_x4", log=said.append)
    assert [job.source.name for job in jobs] == ["a.jpg", "b.PNG", "own_x4.png"]
    assert sum("by its name it is a result of" in line for line in said) == 2
    assert any("c.svg" in line for line in said)
    with pytest.raises(ValueError, match="would replace it"):
        plan([folder], ending="_x4", out=folder, overwrite=True, log=said.append)


def test_results_of_other_flags_are_no_photographs(folder: Path) -> None:
    for stem in ("a_x2", "a_x2.5_x4", "a_1920x1080", "a_x4_001", "a.jpg_x4"):
        (folder / f"{stem}.jpg").write_bytes(b"")
    (folder / "other_x4.jpg").write_bytes(b"")
    said = list[str]()
    jobs = plan([folder], ending="_x4", out=folder, log=said.append)
    names = [job.source.name for job in jobs]
    assert "other_x4.jpg" in names
    assert not [name for name in names if name.startswith("a") and name != "a.jpg"]
    assert len([text for text in said if "left out: by its name" in text]) == 5
    by_hand = plan([folder / "a.jpg", folder / "a_x2.jpg"], ending="_x4", out=folder / "there", log=said.append)
    assert len(by_hand) == 2


def test_a_result_folder_inside_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (folder / "done").mkdir()
    (folder / "done/a_x2.png").touch()
    assert "in/done/a_x4.png" in outs([folder], tmp_path, recursive=True, out=folder / "done")
    assert len(outs([folder], tmp_path, recursive=True, out=folder / "done")) == 3


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*nowhere"):
        outs([tmp_path / "nowhere"], tmp_path)
    with pytest.raises(FileNotFoundError, match="no photograph"):
        outs([tmp_path], tmp_path)


def test_frames_have_numbers() -> None:
    job = Job(Path("a.gif"), Path("a_x4.png"), "png")
    assert [job.frame(0, 1), job.frame(0, 12), job.frame(1233, 1234)] == [
        *(Path("a_x4.png"), Path("a_x4_001.png"), Path("a_x4_1234.png"))
    ]


def test_links_to_folders_are_named_and_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    log: list[str] = []
    jobs = plan([folder], ending="_x4", recursive=True, log=log.append)
    assert not [job for job in jobs if "linked" in job.source.parts]
    assert [line for line in log if line.endswith("links to folders are not followed: linked")]
