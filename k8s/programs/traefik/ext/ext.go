// Package ext is an extension point of Traefik that its published module lacks; it adds nothing.
package ext

// HTTP adds nothing to the HTTP configuration.
type HTTP struct{}

// Router adds nothing to a router.
type Router struct{}
