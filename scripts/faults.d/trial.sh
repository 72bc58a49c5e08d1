# What scripts/faults and scripts/hostile share: starts each server afresh, lets it meet something, and makes a table. They
# set `trial`, their name; `connections`; `packages`, what they need built; `flags`, those of our servers; `columns` and
# `alignment`, the table's head. They define `usage`, and `meet`, which writes lines of the table for the server $name on
# $port, which "$@" starts.
servers= only=
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage && exit 0 ;;
        -c)
            [ $# -gt 1 ] || { echo "scripts/$trial: -c needs a value" >&2 && exit 2; }
            connections=$2
            shift ;;
        --only)
            [ $# -gt 1 ] || { echo "scripts/$trial: --only needs a value" >&2 && exit 2; }
            only="$only --only $2"
            shift ;;
        prefork | threads | threadpool | async | async-codec | async-uring | nginx | apache | go) servers="$servers $1" ;;
        *) echo "scripts/$trial: unknown argument: $1" >&2 && usage >&2 && exit 2 ;;
    esac
    shift
done
[ -n "$servers" ] || servers="prefork threads threadpool async async-codec async-uring nginx apache go"
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
config=$PWD/scripts/faults.d
PATH=$PATH:/usr/sbin
ulimit -n "$(ulimit -Hn)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
chmod 755 "$work"
mkdir "$work/files" "$work/temp"
echo hello >"$work/files/index.txt"
echo ok >"$work/files/health"
# shellcheck disable=SC2086 # They are several words.
cargo build --quiet $packages -p server-prefork -p server-threads -p server-threadpool -p server-async

# Whether a program is installed, which is said if it is not.
has() {
    command -v "$1" >/dev/null && return
    echo "scripts/$trial: $2 is left out, because $1 is not installed" >&2
    return 1
}

# A name, a port, a command.
run() {
    name=$1 port=$2
    shift 2
    echo "$name" >&2
    meet "$@" >>"$work/lines"
}

# One of ours: a name, a program, its own flags.
run_ours() {
    label=$1 program=$2
    shift 2
    # shellcheck disable=SC2086 # They are several words, or none.
    run "$label" 18090 "$target/debug/$program" "$@" --listen '127.0.0.1:{port}' $flags || failed=1
}

failed=0
for server in $servers; do
    case "$server" in
        nginx) ! has nginx nginx || run nginx 18080 nginx -e stderr -p "$work" -c "$config/nginx.conf" || true ;;
        apache) ! has apache2 Apache || FAULTS_DIR="$work" run apache 18081 apache2 -f "$config/apache.conf" -D FOREGROUND || true ;;
        go)
            if has go "Go net/http"; then
                go build -o "$work/server" "$config/server.go"
                run go 18082 "$work/server" 127.0.0.1:18082 || true
            fi ;;
        async-codec) run_ours "$server" server-async --http codec ;;
        async-uring) run_ours "$server" server-async --http codec --driver uring ;;
        *) run_ours "$server" "server-$server" ;;
    esac
done
{
    echo "$columns"
    echo "$alignment"
    awk -F'\t' '{ line = "|"; for (i = 1; i <= NF; i++) line = line " " $i " |"; for (; i <= 9; i++) line = line " |"; print line }' "$work/lines"
} | tee "$target/$trial.md"
exit "$failed"
