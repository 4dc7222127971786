
# Names that only the cluster knows: they are asked for when they are wanted.
_muster_named() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at where=()
    _muster "$@"
    [[ $cur == -* ]] && return
    # The cluster that was typed.
    for ((at = 1; at < COMP_CWORD - 1; at++)); do
        case ${COMP_WORDS[at]} in
            --cluster | --runtime-dir | --connection | --endpoint)
                where+=("${COMP_WORDS[at]}" "${COMP_WORDS[at+1]}") ;;
        esac
    done
    case $prev in
        call | map | help)
            prev=$(muster methods -q "${where[@]}" 2>/dev/null) ;;
        --to | drain | scale | reload | logs)
            prev=$(muster workers -q "${where[@]}" 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
        explain | cancel | trace)
            prev=$(muster calls -q "${where[@]}" 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
        *)
            return ;;
    esac
    COMPREPLY=($(compgen -W "$prev" -- "$cur"))
}
complete -F _muster_named -o bashdefault -o default muster
