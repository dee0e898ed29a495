{{/*
The labels by which rules and dashboards know a series, from the pod's own labels: feed, component, shard, member. In
Prometheus' own spelling, or in the Prometheus Operator's when called with "podMonitor".
*/}}
{{- define "observability.relabelings" -}}
{{- $pairs := list (list "marketfeed_dev_feed" "feed") (list "app_kubernetes_io_component" "component") (list "marketfeed_dev_shard" "shard") (list "marketfeed_dev_member" "member") -}}
{{- $source := ternary "sourceLabels" "source_labels" (eq . "podMonitor") -}}
{{- $target := ternary "targetLabel" "target_label" (eq . "podMonitor") -}}
{{- range $pairs }}
- {{ $source }}: [__meta_kubernetes_pod_label_{{ index . 0 }}]
  {{ $target }}: {{ index . 1 }}
{{- end }}
{{- end -}}
