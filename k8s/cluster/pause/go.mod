module marketfeed.dev/k8s/cluster/pause

go 1.24
