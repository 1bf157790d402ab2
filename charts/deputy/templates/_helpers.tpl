{{/*
The name everything of this release starts with: the release's own name where it says "deputy" already.
Cut at 40 characters, so that the longest name made from it stays a DNS label.
*/}}
{{- define "deputy.fullname" -}}
{{- if contains "deputy" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-deputy" (.Release.Name | trunc 33 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "deputy.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* What a Service, a Deployment or a disruption budget selects by. Argument: (list root "controller"). */}}
{{- define "deputy.selectorLabels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: deputy
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of every object. Argument: the root. */}}
{{- define "deputy.labels" -}}
app.kubernetes.io/name: deputy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{/* Labels of an object that belongs to one role. Argument: (list root "controller"). */}}
{{- define "deputy.componentLabels" -}}
{{ include "deputy.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/*
The parts all roles' pods share. Argument: (list root "controller" values-of-the-role).
The image holds one static binary and nothing else: no shell, so no preStop hook. The binary drains by
itself on SIGTERM, within the grace period.
*/}}
{{- define "deputy.podSpec" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $values := index . 2 -}}
serviceAccountName: {{ include "deputy.fullname" $root }}-{{ $role }}
# All roles speak to the API server, and learn its audiences from their own token.
automountServiceAccountToken: true
enableServiceLinks: false
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: 30
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  {{- if eq $role "broker" }}
  # Its volume is its own user's.
  fsGroup: 65532
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The parts all roles' containers share. Argument: as deputy.podSpec. */}}
{{- define "deputy.container" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
image: {{ include "deputy.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
env:
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop: [ALL]
  readOnlyRootFilesystem: true
{{- with $values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
livenessProbe:
  httpGet:
    path: /livez
    port: metrics
  periodSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: metrics
  periodSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* Arguments all roles share. Argument: as deputy.podSpec. */}}
{{- define "deputy.args" -}}
{{- $root := index . 0 -}}
{{- $values := index . 2 -}}
- --fullname={{ include "deputy.fullname" $root }}
- --trust-domain={{ $root.Values.trustDomain }}
- --admin-address=0.0.0.0:8080
- --log-format={{ $root.Values.log.format }}
- {{ printf "--log-level=%s" ($values.logLevel | default $root.Values.log.level) | quote }}
{{- range $root.Values.cloudRoleAnnotations }}
- {{ printf "--cloud-role-annotation=%s" . | quote }}
{{- end }}
{{- end -}}

{{/* Annotations of all roles' pods. Argument: the role's values. */}}
{{- define "deputy.podAnnotations" -}}
prometheus.io/scrape: "true"
prometheus.io/port: "8080"
prometheus.io/path: /metrics
{{- with .podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The user name under which the controller's requests arrive, inside a CEL string. */}}
{{- define "deputy.webhookUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "deputy.fullname" . }}-webhook
{{- end -}}

{{- define "deputy.brokerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "deputy.fullname" . }}-broker
{{- end -}}

{{/* The issuer of the broker's tokens. */}}
{{- define "deputy.issuer" -}}
{{- .Values.broker.issuer | default (printf "https://%s-broker.%s.svc" (include "deputy.fullname" .) .Release.Namespace) -}}
{{- end -}}

{{- define "deputy.controllerUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "deputy.fullname" . }}-controller
{{- end -}}

{{/*
CEL: does the pod or pod template in the variable named by the argument say that it is an agent's?
By the label, whatever its value, or by an account named agent.*, in either of the two fields.
It holds on anything with metadata, whether or not it has labels or a spec.
*/}}
{{- define "deputy.cel.namesAgent" -}}
(has({{ . }}.metadata) && has({{ . }}.metadata.labels) && 'deputy.dev/agent' in {{ . }}.metadata.labels) ||
(has({{ . }}.spec) && has({{ . }}.spec.serviceAccountName) && {{ . }}.spec.serviceAccountName.startsWith('agent.')) ||
(has({{ . }}.spec) && has({{ . }}.spec.serviceAccount) && {{ . }}.spec.serviceAccount.startsWith('agent.'))
{{- end -}}

{{/*
CEL: is the object under review, before or after the request, an agent's pod? Webhook configurations
and policies say it in the same words. `object` is null on DELETE and `oldObject` on CREATE.
*/}}
{{- define "deputy.cel.agentPod" -}}
[object, oldObject].exists(pod, pod != null && (
{{ include "deputy.cel.namesAgent" "pod" | indent 2 }}
))
{{- end -}}

{{/* Where the API server finds the webhook. Argument: (list root "/validate"). */}}
{{- define "deputy.clientConfig" -}}
# No caBundle here: the controller owns that field by server-side apply, so that no upgrade resets it.
clientConfig:
  service:
    name: {{ include "deputy.fullname" (index . 0) }}-webhook
    namespace: {{ (index . 0).Release.Namespace }}
    path: {{ index . 1 }}
    port: 443
{{- end -}}

{{/* What every webhook entry has in common. */}}
{{- define "deputy.webhookDefaults" -}}
admissionReviewVersions: [v1]
failurePolicy: Fail
matchPolicy: Equivalent
sideEffects: None
timeoutSeconds: 5
{{- end -}}

{{/* A policy's binding: it refuses, everywhere. Argument: (list root "agent-accounts"). */}}
{{- define "deputy.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "deputy.fullname" (index . 0) }}-{{ index . 1 }}
  labels:
    {{- include "deputy.labels" (index . 0) | nindent 4 }}
spec:
  policyName: {{ include "deputy.fullname" (index . 0) }}-{{ index . 1 }}
  validationActions: [Deny]
{{- end -}}

{{/*
CEL: the pod, or the pod template, within the object that the variable named by the argument holds.
*/}}
{{- define "deputy.cel.podOf" -}}
request.kind.kind == 'Pod' ? dyn({{ . }}) :
request.kind.kind == 'CronJob' ? dyn({{ . }}).spec.jobTemplate.spec.template :
request.kind.kind == 'PodTemplate' ? dyn({{ . }}).template : dyn({{ . }}).spec.template
{{- end -}}

{{/*
CEL: what a person without `use` is told. Arguments: the variable that lists the agent, and where in the
pod it is named.
*/}}
{{- define "deputy.cel.mayNotUse" -}}
(variables.image
? '[AI006] spec.containers: "' + request.userInfo.username + '" may not change an image in a pod of'
: '[AI005] ' + variables.path + '{{ index . 1 }}: "' + request.userInfo.username + '" may not run workloads as') +
' AgentIdentity "' + variables.{{ index . 0 }}[0] + '"; have the verb "use" on agentidentities/' +
variables.{{ index . 0 }}[0] + ' granted in namespace "' + request.namespace + '" (docs/rules.md#' +
(variables.image ? 'ai006' : 'ai005') + ')'
{{- end -}}
