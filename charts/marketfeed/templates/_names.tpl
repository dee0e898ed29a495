{{- define "marketfeed.labels" -}}
app.kubernetes.io/name: marketfeed
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: marketfeed
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "marketfeed.image" -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end -}}

{{- define "marketfeed.pullPolicy" -}}
{{- .Values.image.pullPolicy | default .Values.global.imagePullPolicy | default "IfNotPresent" -}}
{{- end -}}

{{/* What a pod of one container that needs nothing but its image is made of. */}}
{{- define "marketfeed.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "marketfeed.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "marketfeed.resources" -}}
requests: {cpu: 20m, memory: 48Mi}
limits: {cpu: "1", memory: 256Mi}
{{- end -}}

{{- define "marketfeed.bootstrapServers" -}}
{{- if .Values.kafka.enabled -}}
{{- include "kafka.bootstrap" .Subcharts.kafka -}}
{{- else -}}
{{- .Values.connections.kafka.bootstrapServers -}}
{{- end -}}
{{- end -}}

{{/* Of (dict "root" … "store" "redis"|"postgres"): name and key of the Secret with the connection string, as YAML. */}}
{{- define "marketfeed.secretKey" -}}
{{- $given := index .root.Values.connections .store -}}
{{- if (index .root.Values .store).enabled -}}
name: {{ include (printf "%s.secret" .store) (index .root.Subcharts .store) }}
key: url
{{- else if $given.existingSecret -}}
name: {{ $given.existingSecret }}
key: {{ $given.key }}
{{- else -}}
name: {{ printf "%s-%s" .root.Release.Name .store }}
key: url
{{- end -}}
{{- end -}}

{{/* The stores' part of a MarketFeed's spec. */}}
{{- define "marketfeed.stores" -}}
kafka:
  bootstrapServers: {{ include "marketfeed.bootstrapServers" . | quote }}
redis:
  urlFrom:
    secretKeyRef:
      {{- include "marketfeed.secretKey" (dict "root" . "store" "redis") | nindent 6 }}
postgres:
  urlFrom:
    secretKeyRef:
      {{- include "marketfeed.secretKey" (dict "root" . "store" "postgres") | nindent 6 }}
{{- end -}}

{{- define "marketfeed.feedName" -}}
{{- printf "%s-feed-%s" (.Release.Name | trunc 20 | trimSuffix "-") .Values.feed.name | trunc 62 | trimSuffix "-" -}}
{{- end -}}
