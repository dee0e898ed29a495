{{- define "routes.feed" -}}
{{- required "feed: name the MarketFeed that the routes lead to" .Values.feed -}}
{{- end -}}

{{/* Names end in what they are, so that several releases and kinds fit into one namespace. */}}
{{- define "routes.name" -}}
{{- printf "%s-%s" .Release.Name (include "routes.feed" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "routes.labels" -}}
app.kubernetes.io/name: routes
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: marketfeed
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
marketfeed.dev/feed: {{ include "routes.feed" . }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "routes.parentRefs" -}}
{{- if .Values.parentRefs -}}
{{- toYaml .Values.parentRefs -}}
{{- else if .Values.gateway.create -}}
- name: {{ include "routes.name" . }}
{{- else -}}
{{- fail "parentRefs: name the Gateway that the routes attach to, or set gateway.create" -}}
{{- end -}}
{{- end -}}

{{/* The annotations that a known controller needs to leave a silent WebSocket open. */}}
{{- define "routes.controllerAnnotations" -}}
{{- $controller := .Values.ingress.controller -}}
{{- if eq $controller "haproxytech" -}}
haproxy.org/timeout-tunnel: {{ .Values.ingress.webSocketTimeout | quote }}
{{- else if eq $controller "haproxy-ingress" -}}
haproxy-ingress.github.io/timeout-tunnel: {{ .Values.ingress.webSocketTimeout | quote }}
{{- else if eq $controller "traefik" -}}
traefik.ingress.kubernetes.io/router.entrypoints: {{ ternary "websecure" "web" (ne .Values.ingress.tls.secretName "") }}
{{- if .Values.ingress.tls.secretName }}
traefik.ingress.kubernetes.io/router.tls: "true"
{{- end }}
{{- end -}}
{{- end -}}
