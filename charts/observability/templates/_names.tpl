{{- define "observability.name" -}}
{{- printf "%s-%s" .context.Release.Name .part | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "observability.labels" -}}
{{ include "observability.selector" . }}
app.kubernetes.io/part-of: marketfeed
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version }}
{{- with .context.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "observability.selector" -}}
app.kubernetes.io/name: observability
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end -}}

{{- define "observability.namespaces" -}}
{{ toYaml (default (list .Release.Namespace) .Values.namespaces) }}
{{- end -}}

{{/* Every pod of this chart: restricted, its file system read-only. */}}
{{- define "observability.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "observability.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "observability.hasPrometheusOperator" -}}
{{- if .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}yes{{ end -}}
{{- end -}}
