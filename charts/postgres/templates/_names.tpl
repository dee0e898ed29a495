{{/* <release>-postgres, or just the release when its name says so already. */}}
{{- define "postgres.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "postgres" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-postgres" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "postgres.selector" -}}
app.kubernetes.io/name: postgres
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "postgres.labels" -}}
{{ include "postgres.selector" . }}
app.kubernetes.io/part-of: marketfeed
app.kubernetes.io/component: postgres
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "postgres.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "postgres.pullPolicy" -}}
{{- .Values.image.pullPolicy | default (.Values.global).imagePullPolicy | default "IfNotPresent" -}}
{{- end -}}


{{- define "postgres.secret" -}}
{{- .Values.auth.existingSecret | default (include "postgres.fullname" .) -}}
{{- end -}}

{{/* The password: as given, else as it is, else a new one. */}}
{{- define "postgres.password" -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (include "postgres.fullname" .) -}}
{{- if .Values.auth.password -}}
{{- .Values.auth.password -}}
{{- else if and $found ($found.data).password -}}
{{- $found.data.password | b64dec -}}
{{- else -}}
{{- randAlphaNum 32 -}}
{{- end -}}
{{- end -}}

{{- define "postgres.configuration" -}}
{{- $settings := dict
  "listen_addresses" "'*'"
  "port" 5432
  "unix_socket_directories" "'/run/postgresql'"
  "unix_socket_permissions" "0700"
  "hba_file" "'/etc/postgresql/pg_hba.conf'"
  "max_connections" (int .Values.maxConnections)
  "shared_buffers" .Values.sharedBuffers
  "max_wal_size" "2GB"
  "checkpoint_timeout" "15min"
  "jit" "off"
  "timezone" "'UTC'"
  "log_timezone" "'UTC'"
  "log_line_prefix" "'%m [%p] '"
  "log_min_duration_statement" "1000"
  "tcp_keepalives_idle" 60
  "tcp_keepalives_interval" 10
  "tcp_keepalives_count" 3
-}}
{{- range $name, $value := mergeOverwrite $settings (deepCopy .Values.settings) }}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
{{ $name }} = {{ int64 $value }}
{{- else if kindIs "bool" $value }}
{{ $name }} = {{ ternary "on" "off" $value }}
{{- else }}
{{ $name }} = {{ $value }}
{{- end }}
{{- end }}
{{- end -}}
