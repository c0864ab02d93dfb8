"""Protocol files: what they say, and those that are none."""

import pytest
import torch

from data.protocol import gaussian8, one_draw
from data.protocol_file import read_protocol


@pytest.fixture
def hr(photo):
    return torch.from_numpy(photo[60:156, 150:270]).permute(2, 0, 1) / 255


def test_a_protocol_of_ones_own(tmp_path, hr):
    path = tmp_path / "mine.json"
    path.write_text('{"recipe": "gaussian", "kernels": [[2.6, 2.6, 0], [4.0, 1.5, 120]], "noise": 10, "jpeg": 75}')
    rule = read_protocol(path, 4)
    assert str(rule) == "mine noise 10 JPEG 75"
    assert [case.name for case in rule.cases] == ["2.6_2.6_0", "4_1.5_120"]
    path.write_text('{"recipe": "gaussian", "kernels": [[2.6, 2.6, 0]]}')
    rule, named = read_protocol(path, 4), gaussian8(4)
    assert torch.equal(rule.degrade(hr, rule.cases[0], seed="a"), named.degrade(hr, named.cases[4], seed="a"))


def test_a_recipe_of_second_order_as_a_protocol(tmp_path, hr):
    path = tmp_path / "phone.json"
    path.write_text('{"second": {"jpeg": {"quality": [60, 95]}}}')
    rule = read_protocol(path, 4)
    assert str(rule) == "second_order phone"
    assert str(one_draw("second_order", 4, {"recipe": "light"})) == "second_order light"
    named = one_draw("second_order", 4, {"recipe": {"name": "other", "second": {"jpeg": {"quality": [60, 95]}}}})
    assert rule.digest == named.digest  # by its content
    assert rule.digest != one_draw("second_order", 4).digest
    path.write_text('{"first": {}}')
    assert read_protocol(path, 4) == one_draw("second_order", 4)
    path.write_text('{"second": {"jpg": {}}}')
    with pytest.raises(
        ValueError, match=r"phone\.json is not a protocol .*second\.jpg is unknown; did you mean jpeg\?"
    ):
        read_protocol(path, 4)
    path.write_text('{"frist": {"share": 0}}')
    with pytest.raises(ValueError, match=r"phone\.json is not a protocol .*frist is unknown; did you mean first\?"):
        read_protocol(path, 4)
    path.write_text("{}")
    assert read_protocol(path, 4) == one_draw("second_order", 4)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"recipe": "gaussian"}',
        '{"recipe": "sinc", "kernels": [[1, 1, 0]]}',
        '{"recipe": "manet", "kernels": []}',
        '{"recipe": "manet", "kernels": [[1, 1, 0]], "nosie": 3}',
        '{"recipe": "manet", "kernels": [[1, 1]]}',
        '{"recipe": "ikc", "kernels": [[2, 1, 30]]}',
        '{"recipe": "ikc", "kernels": [[2, 2, 0]], "noise": 10}',
        '{"recipe": "ikc", "kernels": [[2, 2, 0]], "jpeg": 75}',
    ],
)
def test_protocol_files_that_are_none(content, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(content)
    words = "ikc has isotropic kernels, no noise and no jpeg" if "ikc" in content else ""
    with pytest.raises(ValueError, match=rf"mine\.json is not a protocol.*{words}"):
        read_protocol(path, 4)
