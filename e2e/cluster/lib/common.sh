# shellcheck shell=bash
# What every script of the cluster shares: where things are, and how to say
# what is going on. Sourced, never run.

cluster_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
repo_dir=$(cd "$cluster_dir/../.." && pwd -P)

# Everything this cluster keeps on disk. Ignored by git, removed by `down`.
state_dir=$repo_dir/e2e/.cluster
# Kept per version and shared by every clone of the user.
cache_dir=${XDG_CACHE_HOME:-$HOME/.cache}/deputy

# shellcheck source=../versions.env
source "$cluster_dir/versions.env"

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

now_ms() { date +%s%3N; }

seconds_since() {
  local ms=$(($(now_ms) - $1))
  printf '%d.%d s' $((ms / 1000)) $((ms % 1000 / 100))
}

# step TEXT COMMAND...: one line of progress, finished with the seconds it took.
# What the command prints is shown only when it fails.
step() {
  local text=$1 started output said
  shift
  started=$(now_ms)
  # The file has no name from here on, so that nothing is left whatever ends us.
  output=$(mktemp)
  exec {said}<> "$output"
  rm "$output"
  printf '  %-58s ' "$text" >&2
  # A subshell with -e of its own: inside a condition bash would ignore -e.
  set +e
  (
    set -e
    "$@"
  ) >&"$said" 2>&1
  local status=$?
  set -e
  if ((status != 0)); then
    say "failed after $(seconds_since "$started")"
    tail -n 40 "/proc/self/fd/$said" >&2
    exec {said}>&-
    return "$status"
  fi
  exec {said}>&-
  say "$(seconds_since "$started")"
}

# wait_until SECONDS WHAT COMMAND...: runs COMMAND until it succeeds or the
# deadline passes; then shows the last thing it said.
wait_until() {
  local deadline=$((SECONDS + $1)) what=$2 said
  shift 2
  until said=$("$@" 2>&1); do
    if ((SECONDS >= deadline)); then
      say "gave up waiting: $what"
      [[ -z $said ]] || say "$said"
      return 1
    fi
    sleep 0.1
  done
}
