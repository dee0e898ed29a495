{{/* <release>-redis, or just the release when its name says so already. */}}
{{- define "redis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "redis" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-redis" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "redis.selector" -}}
app.kubernetes.io/name: redis
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "redis.labels" -}}
{{ include "redis.selector" . }}
app.kubernetes.io/part-of: marketfeed
app.kubernetes.io/component: redis
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "redis.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "redis.pullPolicy" -}}
{{- .Values.image.pullPolicy | default (.Values.global).imagePullPolicy | default "IfNotPresent" -}}
{{- end -}}


{{- define "redis.secret" -}}
{{- .Values.auth.existingSecret | default (include "redis.fullname" .) -}}
{{- end -}}

{{/* The password: as given, else as it is, else a new one. */}}
{{- define "redis.password" -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (include "redis.fullname" .) -}}
{{- if .Values.auth.password -}}
{{- .Values.auth.password -}}
{{- else if and $found ($found.data).password -}}
{{- $found.data.password | b64dec -}}
{{- else -}}
{{- randAlphaNum 32 -}}
{{- end -}}
{{- end -}}

{{- define "redis.configuration" -}}
{{- $keeps := .Values.persistence.enabled -}}
{{- $settings := dict
  "bind" "* -::*"
  "port" 6379
  "dir" "/data"
  "save" "\"\""
  "appendonly" (ternary "yes" "no" $keeps)
  "maxmemory" .Values.maxmemory
  "maxmemory-policy" "noeviction"
  "io-threads" (int .Values.ioThreads)
  "tcp-keepalive" 60
-}}
{{- range $name, $value := mergeOverwrite $settings (deepCopy .Values.settings) }}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
{{ $name }} {{ int64 $value }}
{{- else if kindIs "bool" $value }}
{{ $name }} {{ ternary "yes" "no" $value }}
{{- else }}
{{ $name }} {{ $value }}
{{- end }}
{{- end }}
{{- end -}}
