{{- define "observability.prometheusConfig" -}}
global:
  scrape_interval: {{ .Values.prometheus.scrapeInterval }}
  evaluation_interval: {{ .Values.prometheus.scrapeInterval }}
{{- if .Values.rules.enabled }}
rule_files:
  - /etc/prometheus/rules/*.yaml
{{- end }}
{{- with .Values.prometheus.alertmanagers }}
alerting:
  alertmanagers:
    - static_configs:
        - targets:
            {{- toYaml . | nindent 12 }}
{{- end }}
scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: [localhost:9090]
  # Every pod of marketfeed, whoever made it: the label says that it is one, the port's name where its metrics are.
  - job_name: marketfeed
    kubernetes_sd_configs:
      - role: pod
        namespaces:
          names:
            {{- include "observability.namespaces" . | nindent 12 }}
        selectors:
          - role: pod
            label: app.kubernetes.io/part-of=marketfeed
    relabel_configs:
      - source_labels: [__meta_kubernetes_pod_container_port_name]
        regex: health
        action: keep
      # A finished Job does not answer, and that is no fault.
      - source_labels: [__meta_kubernetes_pod_phase]
        regex: Succeeded|Failed
        action: drop
      - source_labels: [__meta_kubernetes_namespace]
        target_label: namespace
      - source_labels: [__meta_kubernetes_pod_name]
        target_label: pod
      {{- include "observability.relabelings" "prometheus" | nindent 6 }}
{{- end -}}
