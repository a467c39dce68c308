# Completion of loadstone's commands and options for bash. A test keeps the options in step with the program.

_loadstone() {
    local current=$2 previous=$3 command=${COMP_WORDS[1]} words=
    if ((COMP_CWORD == 1)); then
        words='inspect load manifest cache help --help --version'
    elif [[ $command == help ]]; then
        words='inspect load manifest cache'
    else
        # Of --io=map, bash makes three words.
        [[ $current == '=' ]] && current=
        [[ $previous == '=' ]] && previous=${COMP_WORDS[COMP_CWORD - 2]}
        case $previous in
        --dtype | -d) words='bf16 f16 f32 f64 f8_e4m3 f8_e5m2 f8_e4m3fnuz f8_e5m2fnuz' ;;
        --io) words='auto map read uring direct' ;;
        --keep-f32 | --names | --seed | --threads | -j | --window | --cache-size | --variant | --revision) return ;;
        *)
            if [[ $current == -* ]]; then
                case $command in
                inspect) words='--tree --json --variant --revision --help' ;;
                load)
                    words='--dtype --keep-f32 --names --map --network --no-strict --ignore-mismatched --no-init
                        --seed --io --threads --window --lazy --keep-cache --prefetch --hugetlb --overcommit
                        --cache --cache-size --trace --dry-run --digest --verbose --json --quiet
                        --variant --revision --help'
                    ;;
                cache) words='--cache --cache-size --json --help' ;;
                manifest) words='--dtype --json --quiet --variant --revision --help' ;;
                esac
            elif [[ $command == cache && ${COMP_WORDS[*]:COMP_CWORD-1:2} != *=* ]]; then
                words='list clear'
            fi
            ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -o default -F _loadstone loadstone
