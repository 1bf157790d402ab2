# shellcheck shell=bash
# The programs the cluster is made of, and those its tests meet, built from Go
# modules and kept in the user's cache, keyed by everything that decides what
# comes out.

# What the cluster itself needs: `up` builds these and no more.
all_tools=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl etcd helm coredns)

tool_family() {
  case $1 in
    etcd | helm | coredns | dex | parties) printf '%s' "$1" ;;
    kube*) printf kubernetes ;;
    *) die "no such tool: $1" ;;
  esac
}

tool_package() {
  case $1 in
    etcd) printf go.etcd.io/etcd/server/v3 ;;
    helm) printf helm.sh/helm/v4/cmd/helm ;;
    coredns) printf github.com/coredns/coredns ;;
    dex) printf github.com/dexidp/dex/cmd/dex ;;
    parties) printf . ;;
    kube*) printf 'k8s.io/kubernetes/cmd/%s' "$1" ;;
  esac
}

# tool_module FAMILY: the folder of its Go module. One is our own.
tool_module() {
  if [[ $1 == parties ]]; then printf '%s/parties' "$(dirname "$cluster_dir")"; else printf '%s/tools/%s' "$cluster_dir" "$1"; fi
}

# tool_version FAMILY: upstream's.
tool_version() {
  local variable=${1^^}_VERSION
  printf '%s' "${!variable:-own}"
}

# Without these the programs do not know their own version: upstream's release
# scripts set them in the same way.
tool_ldflags() {
  local version major minor package
  case $1 in
    kubernetes)
      version=$KUBERNETES_VERSION
      IFS=. read -r major minor _ <<< "${version#v}"
      for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf -- '-X %s.gitVersion=%s ' "$package" "$version"
        printf -- '-X %s.gitMajor=%s -X %s.gitMinor=%s ' "$package" "$major" "$package" "$minor"
        printf -- '-X %s.gitTreeState=clean ' "$package"
      done
      ;;
    helm) printf -- '-X helm.sh/helm/v4/internal/version.version=%s' "$HELM_VERSION" ;;
  esac
}

# from_assets TOOL: whether the caller brings it, in the folder that the ecosystem
# calls KUBEBUILDER_ASSETS.
from_assets() { [[ -n ${KUBEBUILDER_ASSETS:-} && ($1 == kube-apiserver || $1 == etcd) ]]; }

# tool_path TOOL: where it is, or will be once built.
tool_path() {
  local tool=$1 family key
  if from_assets "$tool"; then
    printf '%s/%s' "$(realpath -m "$KUBEBUILDER_ASSETS")" "$tool"
    return
  fi
  family=$(tool_family "$tool")
  key=$({
    uname -m
    tool_ldflags "$family"
    find "$(tool_module "$family")" -name 'go.*' -o -name '*.go' | sort | xargs cat
  } | sha256sum)
  printf '%s/bin/%s-%s-%s/%s' "$cache_dir" "$family" "$(tool_version "$family")" "${key:0:8}" "$tool"
}

# build_tool TOOL: builds it into its place. Atomic: a killed build leaves no
# half-written program.
build_tool() {
  local tool=$1 family package version target temporary
  family=$(tool_family "$tool")
  package=$(tool_package "$tool")
  target=$(tool_path "$tool")
  temporary=$target.$$
  mkdir -p "$(dirname "$target")"
  cd "$(tool_module "$family")" || return
  # A Go workspace or flags of the caller must not change what is built.
  export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly
  version=$(go list -f '{{.Module.Version}}' "$package")
  [[ ${version:-own} == "$(tool_version "$family")" ]] ||
    die "tools/$family/go.mod has $version, versions.env has $(tool_version "$family"): run e2e/cluster/tools/update"
  # shellcheck disable=SC2064
  trap "rm -f '$temporary'" EXIT
  # The build shares the machine with whatever else the user runs.
  nice -n 10 go build -trimpath -buildvcs=false -ldflags "-s -w $(tool_ldflags "$family")" -o "$temporary" "$package"
  mv "$temporary" "$target"
}

# build_tools TOOL...: builds those that are missing. One build at a time for
# all clones of the user: two at once would only take longer.
build_tools() {
  local tool missing=()
  for tool in "$@"; do
    [[ -x $(tool_path "$tool") ]] && continue
    ! from_assets "$tool" || die "KUBEBUILDER_ASSETS is set, but that folder holds no program $tool: $KUBEBUILDER_ASSETS"
    missing+=("$tool")
  done
  ((${#missing[@]})) || return 0
  command -v go > /dev/null || die "Go is needed to build ${missing[*]}: install Go 1.26 or later"
  mkdir -p "$cache_dir"
  (
    exec 8> "$cache_dir/build.lock"
    if ! flock -n 8; then
      step 'another build is running: wait for it' flock 8
    fi
    for tool in "${missing[@]}"; do
      [[ -x $(tool_path "$tool") ]] || step "build $tool $(tool_version "$(tool_family "$tool")")" build_tool "$tool"
    done
  )
}
