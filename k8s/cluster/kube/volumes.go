package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v11/controller"
)

// directories makes a directory of this machine for every claim of its storage class. The volumes are "local"
// volumes, because the kubelet sets a pod's fsGroup on those and not on hostPath volumes.
type directories struct {
	root string
	node string
}

var _ controller.Provisioner = directories{}

// Provision makes the directory. Its name tells people whose it is; the volume's own name keeps it unique.
func (d directories) Provision(_ context.Context, claim controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	if selected := claim.SelectedNode; selected != nil && selected.Name != d.node {
		return nil, controller.ProvisioningReschedule, fmt.Errorf("volumes are directories of node %s, not of %s", d.node, selected.Name)
	}
	if mode := claim.PVC.Spec.VolumeMode; mode != nil && *mode == corev1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, fmt.Errorf("no block volumes here: set volumeMode to Filesystem")
	}
	path := filepath.Join(d.root, strings.Join([]string{claim.PVC.Namespace, claim.PVC.Name, claim.PVName}, "_"))
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	// Any user may write, whatever the umask: a pod without fsGroup runs as some user that is known to nobody here.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return d.volume(claim, path), controller.ProvisioningFinished, nil
}

func (d directories) volume(claim controller.ProvisionOptions, path string) *corev1.PersistentVolume {
	reclaim := corev1.PersistentVolumeReclaimDelete
	if claim.StorageClass.ReclaimPolicy != nil {
		reclaim = *claim.StorageClass.ReclaimPolicy
	}
	onlyHere := corev1.NodeSelectorRequirement{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{d.node}}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: claim.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: reclaim,
			AccessModes:                   claim.PVC.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.PVC.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{onlyHere}}},
			}},
		},
	}
}

// Delete removes the directory of a volume, and never anything outside the root.
func (d directories) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	if volume.Spec.Local == nil || filepath.Dir(filepath.Clean(volume.Spec.Local.Path)) != filepath.Clean(d.root) {
		return &controller.IgnoredError{Reason: "the volume is no directory below " + d.root}
	}
	return os.RemoveAll(volume.Spec.Local.Path)
}

// newVolumesCommand is the provisioner of the cluster's default storage class, a program of the node.
func newVolumesCommand() *cobra.Command {
	var kubeconfig, name string
	made := directories{}
	command := &cobra.Command{
		Use:          "directory-volumes",
		Short:        "Makes a directory of this node for every claim of a storage class",
		SilenceUsage: true,
		Args:         cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			ctx := command.Context()
			controller.NewProvisionController(ctx, client, name, made,
				controller.LeaderElection(false), controller.Threadiness(2)).Run(ctx)
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&kubeconfig, "kubeconfig", "", "credentials for the API server")
	flags.StringVar(&name, "provisioner", "marketfeed.dev/directory", "name that the storage class gives its provisioner")
	flags.StringVar(&made.root, "root", "", "where the directories are made")
	flags.StringVar(&made.node, "node", "", "name of this node")
	for _, required := range []string{"kubeconfig", "root", "node"} {
		_ = command.MarkFlagRequired(required)
	}
	return command
}
