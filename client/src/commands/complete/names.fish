
# Names that only the cluster knows: they are asked for when they are wanted.
function __fish_muster_first
    # Whether the word is the first after one of these commands.
    set -l words (commandline -opc)
    contains -- $words[-1] $argv
end
function __fish_muster_column
    muster $argv -q 2>/dev/null | awk 'NR > 1 { print $1 }'
end
complete -c muster -n "__fish_muster_first call map help" -f -a '(muster methods -q 2>/dev/null)'
complete -c muster -n "__fish_muster_first drain scale reload logs" -f -a '(__fish_muster_column workers)'
complete -c muster -n "__fish_muster_first explain cancel trace" -f -a '(__fish_muster_column calls)'
complete -c muster -n "__fish_muster_using_subcommand call map run" -l to -r -f -a '(__fish_muster_column workers)'
