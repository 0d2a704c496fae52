{{/* The name of all objects of the operator: release "sluice" has "sluice-operator". */}}
{{- define "sluice.name" -}}
{{- printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sluice.serviceAccount" -}}
{{- default (include "sluice.name" .) .Values.serviceAccount.name -}}
{{- end -}}

{{/* Cluster-scoped roles carry the namespace where it is not the usual one, so that two installations do not meet. */}}
{{- define "sluice.clusterName" -}}
{{- if eq .Release.Namespace "sluice-system" -}}
{{- include "sluice.name" . -}}
{{- else -}}
{{- printf "%s:%s" .Release.Namespace (include "sluice.name" .) -}}
{{- end -}}
{{- end -}}

{{/* Metrics for autoscalers come from every replica: one that is replaced must not be the only one. */}}
{{- define "sluice.replicas" -}}
{{- if include "sluice.metricsApi" . -}}
{{- max 2 (int .Values.replicas) -}}
{{- else -}}
{{- .Values.replicas -}}
{{- end -}}
{{- end -}}

{{/* Whether they are served. Without a replica nobody would answer, and an APIService without a server keeps every namespace from being deleted.
With `helm upgrade --reuse-values` the values are those of the chart before, which may not have this one, or that below. */}}
{{- define "sluice.metricsApi" -}}
{{- if and (.Values.metricsApi | default dict).enabled (gt (int .Values.replicas) 0) -}}true{{- end -}}
{{- end -}}

{{/* Whether the operator may list and watch machines. */}}
{{- define "sluice.machines" -}}
{{- if dig "machines" true .Values.rbac -}}true{{- end -}}
{{- end -}}

{{- define "sluice.metricsApiService" -}}
{{- printf "%s-metrics-api" (include "sluice.name" . | trunc 51 | trimSuffix "-") -}}
{{- end -}}

{{/* NetworkPolicies of media clusters know the operator by the first of these: it is not to be changed. */}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: sluice
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "sluice.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What Pod Security "restricted" asks for, and a read-only root file system. */}}
{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{- define "sluice.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}
