{{/* <release>-marketfeed-operator, or just the release when its name says so already. */}}
{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "marketfeed-operator" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-marketfeed-operator" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "operator.selector" -}}
app.kubernetes.io/name: marketfeed-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/part-of: marketfeed
app.kubernetes.io/component: operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Of (dict "image" … "root" …): an image whose tag is the chart's appVersion unless it is named. */}}
{{- define "operator.image" -}}
{{- .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "operator.pullPolicy" -}}
{{- .image.pullPolicy | default (.root.Values.global).imagePullPolicy | default "IfNotPresent" -}}
{{- end -}}

{{- define "operator.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "operator.fullname" .) -}}
{{- end -}}

{{/* Cluster-wide names tell releases of different namespaces apart. */}}
{{- define "operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "operator.fullname" .) -}}
{{- end -}}

{{/* The namespaces that are served, as a YAML list; an empty one means all. */}}
{{- define "operator.namespaces" -}}
{{- if and .Values.allNamespaces .Values.namespaces -}}
{{- fail "namespaces: name some or set allNamespaces, not both" -}}
{{- else if .Values.allNamespaces -}}
[]
{{- else -}}
{{- .Values.namespaces | default (list .Release.Namespace) | toYaml -}}
{{- end -}}
{{- end -}}
