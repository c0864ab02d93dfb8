# Sourced by the scripts of this folder: trains and tests a row of a published table.
#
#   DATA=/data bash scripts/rows/kdsr_m_x4_iso.sh                  all stages, one after the other
#   DATA=/data bash scripts/rows/kdsr_m_x4_iso.sh student test     these stages
#
# DATA    root with DF2K/HR and benchmark/<Set>/HR, or a folder of HR images
# TRAIN   the training set under DATA, where it is not DF2K
# QUICK=1 the whole chain at toy size, in a minute: to see that it works
# OUT     where runs are kept (default: experiment)
# FLAGS   further flags for main.py, for example FLAGS="--data_cache --n_threads 8"; TEST_FLAGS for test.py
# A stage that stops early ends the row; called again, the row goes on where it stopped.
#
# A student learns from the last weights of its teacher, and the last weights of a run are what a row tests: no
# validation chooses what a table reports. (The checkpoint that CDSR's published command tests was chosen by its PSNR on
# Set5, as its name says: model_best.pt is that one here.)

set -euo pipefail
: "${DATA:?name the folder of the images, for example DATA=/data bash $0}"
DATA=$(cd "$DATA" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
OUT=${OUT:-experiment}
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
read -ra flags <<<"${FLAGS:-}"
read -ra test_flags <<<"${TEST_FLAGS:-}"
common=(--dir_data "$DATA" --dir_experiment "$OUT")
train=()
if [ -n "${TRAIN:-}" ]; then train+=(--data_train "$TRAIN"); fi
quick_kdsr=() quick_contrast=() quick_warmup=() quick_ikc=() tested=()
if [ -n "${QUICK:-}" ]; then
    OUT=$OUT/quick
    common=(--dir_data "$DATA" --dir_experiment "$OUT")
    train+=(--batch_size 2 --test_every 4 --epochs_sr 2 --print_every 2 --data_test Set5)
    quick_kdsr=(--n_feats 16 --n_blocks 2 --n_resblocks 1 --patch_size 16)
    quick_contrast=(--n_feats 16 --n_blocks 1 --patch_size 24)
    quick_warmup=(--epochs_encoder 1)
    quick_ikc=(--n_feats 8 --n_blocks 1 --patch_size 16)
    tested=(--data_test Set5)
fi
stages=("$@")

known() { # STAGES of this row; exit if another one was asked for
    local stage
    for stage in "${stages[@]}"; do
        [[ " $* " == *" $stage "* ]] || { echo "$0: there is no stage $stage, but $*" >&2 && exit 2; }
    done
}

wanted() { # STAGE: was it asked for? Without a list all are
    [ ${#stages[@]} -eq 0 ] || [[ " ${stages[*]} " == *" $1 "* ]]
}

run_main() { # RUN DIRECTORY, then flags: start it, or continue it
    local resume=()
    if [ -e "$OUT/$1/model/state.pt" ]; then resume=(--resume); fi
    echo "== $1"
    "$PYTHON" main.py "${common[@]}" "${@:2}" "${train[@]}" "${flags[@]}" "${resume[@]}"
}

run_tests() { # RUN DIRECTORY, iso|aniso, NOISE unless TEST_NOISE names several levels
    local level
    for level in ${TEST_NOISE:-$3}; do
        echo "== test of $1, its last weights, noise $level"
        "$PYTHON" test.py --dir_data "$DATA" --pre_train "$OUT/$1/model/model_latest.pt" --blur_type "$2_gaussian" \
            --noise "$level" "${tested[@]}" "${test_flags[@]}"
    done
}

kdsr() { # NAME SCALE iso|aniso, flags of both stages, then -- and flags of the student alone
    local name=$1 scale=$2 blur=$3 both=() student=()
    known teacher student test
    shift 3
    while [ $# -gt 0 ] && [ "$1" != -- ]; do both+=("$1") && shift; done
    student=("${@:2}")
    local shape=(--scale "$scale" --blur_type "${blur}_gaussian" "${both[@]}" "${quick_kdsr[@]}")
    local teacher_run="${name}_teacher_x${scale}_bicubic_$blur" student_run="${name}_x${scale}_bicubic_$blur"
    if wanted teacher; then
        run_main "$teacher_run" --model KDSR_T --save "${name}_teacher" "${shape[@]}"
    fi
    if wanted student; then
        run_main "$student_run" --model KDSR_S --save "$name" "${shape[@]}" "${student[@]}" \
            --pre_train_TA "$OUT/$teacher_run/model/model_latest.pt"
    fi
    if wanted test; then
        run_tests "$student_run" "$blur" 0
    fi
}

real() { # STAGES of KDSR for real photographs: teacher (KDSRNet-T), student (KDSRNet-S), gan, gan_v2 (KDSRGAN-S), test
    local shape=(--degradation second_order) adversary=(--objective adversarial) stage
    known "$@"
    if [ -n "${QUICK:-}" ]; then
        shape+=("${quick_kdsr[@]}" --crop_size 20 --pool_size 4 --ema 0.5)
        adversary+=(--d_feats 8 --perceptual_weight 0)
    fi
    local t=kdsrnet_t_x4_second_order s=kdsrnet_s_x4_second_order
    local learned=(--pre_train_TA "$OUT/$t/model/model_latest.pt")
    adversary+=(--pre_train "$OUT/$s/model/model_latest.pt" "${learned[@]}")
    for stage in "$@"; do
        wanted "$stage" || continue
        case $stage in
        teacher) run_main $t --model KDSR_T --save kdsrnet_t "${shape[@]}" ;;
        student) run_main $s --model KDSR_S --save kdsrnet_s "${shape[@]}" "${learned[@]}" ;;
        gan) run_main kdsrgan_s_x4_second_order --model KDSR_S --save kdsrgan_s "${shape[@]}" "${adversary[@]}" ;;
        gan_v2)
            run_main kdsrgan_s_v2_x4_second_order --model KDSR_S --save kdsrgan_s_v2 "${shape[@]}" \
                "${adversary[@]}" --sharpen
            ;;
        test) real_test "$OUT/kdsrgan_s_x4_second_order/model/model_latest.pt" ;;
        test_v2) real_test "$OUT/kdsrgan_s_v2_x4_second_order/model/model_latest.pt" ;;
        esac
    done
}

real_test() { # CHECKPOINT: Table 3 if its pairs are there
    local pairs=() flags=(--degradation second_order) set
    for set in AIM2019 NTIRE2020; do
        if [ -d "$DATA/$set" ] || [ -d "$DATA/benchmark/$set" ]; then pairs+=("$set"); fi
    done
    if [ ${#pairs[@]} -gt 0 ]; then
        flags+=(--data_test "$(IFS=+ && echo "${pairs[*]}")")
        if "$PYTHON" -c "import torchmetrics" 2>/dev/null; then flags+=(--score psnr+ssim+lpips_vgg); fi
    elif [ -d "$DATA/benchmark" ]; then
        flags+=("${tested[@]}")
        echo "neither $DATA/AIM2019 nor $DATA/NTIRE2020 is there: tested on photographs degraded by second_order"
    else
        echo "no test sets under $DATA: $1 was not tested"
        return
    fi
    echo "== test of $1, the last weights"
    "$PYTHON" test.py --dir_data "$DATA" --pre_train "$1" "${flags[@]}" "${test_flags[@]}"
}

contrast() { # NAME MODEL SCALE iso|aniso NOISE, then flags of training
    local name=$1 model=$2 scale=$3 blur=$4 noise=$5
    local run="${name}_x${scale}_bicubic_$blur"
    known train test
    if wanted train; then
        run_main "$run" --model "$model" --save "$name" --scale "$scale" --blur_type "${blur}_gaussian" \
            --noise "$noise" "${@:6}" "${quick_contrast[@]}"
    fi
    if wanted test; then
        run_tests "$run" "$blur" "$noise"
    fi
}

ikc() { # SCALE
    local shape=(--model IKC --scale "$1" "${quick_ikc[@]}") first="ikc_sftmd_x$1_ikc" run="ikc_x$1_ikc"
    known sftmd correction test
    if wanted sftmd; then
        run_main "$first" --save ikc_sftmd "${shape[@]}"
    fi
    if wanted correction; then
        run_main "$run" --save ikc "${shape[@]}" --objective correction \
            --pre_train "$OUT/$first/model/model_latest.pt"
    fi
    if wanted test; then
        local flags=(--dir_data "$DATA" --pre_train "$OUT/$run/model/model_latest.pt" "${tested[@]}" "${test_flags[@]}")
        echo "== test of $run, its last weights, the seventh step"
        "$PYTHON" test.py "${flags[@]}"
        echo "== test of $run, its last weights, the best of seven steps: an oracle"
        "$PYTHON" test.py "${flags[@]}" --oracle
    fi
}
