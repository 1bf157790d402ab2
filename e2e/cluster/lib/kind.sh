# shellcheck shell=bash
# CLUSTER=kind: for machines where Docker and kind really work.

require_kind() {
  command -v docker > /dev/null || die 'CLUSTER=kind needs docker, which is not installed'
  docker info > /dev/null 2>&1 || die "CLUSTER=kind needs a Docker engine, and none answers: $(docker info 2>&1 | tail -n 1)"
  command -v kind > /dev/null || die 'CLUSTER=kind needs kind, which is not installed (https://kind.sigs.k8s.io)'
  command -v kubectl > /dev/null || die 'CLUSTER=kind needs kubectl, which is not installed'
}

kind_kubeconfig=$repo_dir/e2e/.cluster/kind.kubeconfig

kind_up() {
  require_kind
  mkdir -p "$state_dir"
  if kind get clusters 2> /dev/null | grep -qx "$cluster_name"; then
    kind export kubeconfig --name "$cluster_name" --kubeconfig "$kind_kubeconfig"
  else
    step "create kind cluster $cluster_name" \
      kind create cluster --name "$cluster_name" --kubeconfig "$kind_kubeconfig" --wait 3m
  fi
  printf 'export KUBECONFIG=%s\n' "$kind_kubeconfig"
}

kind_down() {
  require_kind
  kind delete cluster --name "$cluster_name" --kubeconfig "$kind_kubeconfig"
  rm -f "$kind_kubeconfig"
}
