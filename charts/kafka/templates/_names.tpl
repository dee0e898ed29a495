{{/* <release>-kafka, or just the release when its name says so already. */}}
{{- define "kafka.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "kafka" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-kafka" (.Release.Name | trunc 44 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "kafka.selector" -}}
app.kubernetes.io/name: kafka
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kafka.labels" -}}
{{ include "kafka.selector" . }}
app.kubernetes.io/part-of: marketfeed
app.kubernetes.io/component: kafka
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "kafka.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "kafka.pullPolicy" -}}
{{- .Values.image.pullPolicy | default (.Values.global).imagePullPolicy | default "IfNotPresent" -}}
{{- end -}}

{{/* Where clients begin. */}}
{{- define "kafka.bootstrap" -}}
{{ include "kafka.fullname" . }}:9092
{{- end -}}

{{/* What is appended to a pod's name to make its host name. */}}
{{- define "kafka.domain" -}}
{{ include "kafka.fullname" . }}-nodes.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* 21 characters of a digest and one that leaves the last four bits 0: a canonical base64url of 16 bytes. */}}
{{- define "kafka.clusterId" -}}
{{- if .Values.clusterId -}}
{{- .Values.clusterId -}}
{{- else -}}
{{- printf "%sQ" (printf "%s/%s" .Release.Namespace (include "kafka.fullname" .) | sha256sum | trunc 21) -}}
{{- end -}}
{{- end -}}

{{- define "kafka.voters" -}}
{{- $root := . -}}
{{- $voters := list -}}
{{- range $i := until (int .Values.replicas) -}}
{{- $voters = append $voters (printf "%d@%s-%d.%s:9093" $i (include "kafka.fullname" $root) $i (include "kafka.domain" $root)) -}}
{{- end -}}
{{- join "," $voters -}}
{{- end -}}

{{/*
server.properties but for what differs from node to node. Three nodes: everything three times, two must have a write
before it counts. Replication of a MarketFeed's topics is the broker's default, the control topic's included.
*/}}
{{- define "kafka.properties" -}}
{{- $copies := int .Values.replicas -}}
{{- $synced := ternary 2 1 (eq $copies 3) -}}
{{- $settings := dict
  "process.roles" "broker,controller"
  "controller.quorum.voters" (include "kafka.voters" .)
  "listeners" "PLAINTEXT://:9092,CONTROLLER://:9093"
  "listener.security.protocol.map" "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
  "controller.listener.names" "CONTROLLER"
  "inter.broker.listener.name" "PLAINTEXT"
  "log.dirs" "/var/lib/kafka/data"
  "auto.create.topics.enable" "false"
  "num.partitions" (int .Values.partitions)
  "default.replication.factor" $copies
  "min.insync.replicas" $synced
  "unclean.leader.election.enable" "false"
  "offsets.topic.replication.factor" $copies
  "transaction.state.log.replication.factor" $copies
  "transaction.state.log.min.isr" $synced
  "share.coordinator.state.topic.replication.factor" $copies
  "share.coordinator.state.topic.min.isr" $synced
  "group.initial.rebalance.delay.ms" 0
-}}
{{- if eq $copies 1 -}}
{{/* Alone, nobody takes over while a killed broker is away, so it need not wait long for its old session to end. */}}
{{- $settings = merge (dict "broker.session.timeout.ms" 3000 "broker.heartbeat.interval.ms" 1000 "offsets.topic.num.partitions" 8 "transaction.state.log.num.partitions" 8 "share.coordinator.state.topic.num.partitions" 8) $settings -}}
{{- end -}}
{{- range $name, $value := mergeOverwrite $settings (deepCopy .Values.settings) }}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) }}
{{ $name }}={{ int64 $value }}
{{- else }}
{{ $name }}={{ $value }}
{{- end }}
{{- end }}
{{- end -}}
