# Names that only the cluster knows: they are asked for when they are wanted.
_muster_ask() {
    local -a where
    local at
    for ((at = 2; at < CURRENT - 1; at++)); do
        case ${words[at]} in
            --cluster | --runtime-dir | --connection | --endpoint) where+=(${words[at]} ${words[at+1]}) ;;
        esac
    done
    muster "$@" -q $where 2>/dev/null
}
_muster_methods() { compadd -- ${(f)"$(_muster_ask methods)"} }
_muster_workers() { compadd -- ${(f)"$(_muster_ask workers | awk 'NR > 1 { print $1 }')"} }
_muster_calls() { compadd -- ${(f)"$(_muster_ask calls | awk 'NR > 1 { print $1 }')"} }

