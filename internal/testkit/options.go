package testkit

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An Option says how a cluster is to be.
type Option func(*plan)

// plan is what the options add up to.
type plan struct {
	version    string
	nodes      int
	properties map[string]string
	perNode    map[int]map[string]string
	advertised map[int]string
	format     []string
	java       []string
	protocol   string
}

func newPlan(opts []Option) (*plan, error) {
	p := &plan{
		version: Kafka43, nodes: 1, protocol: "PLAINTEXT",
		properties: map[string]string{}, perNode: map[int]map[string]string{}, advertised: map[int]string{},
	}
	for _, o := range opts {
		o(p)
	}
	if p.nodes < 1 || p.nodes > 5 {
		return nil, fmt.Errorf("a cluster of %d nodes: it must be 1 to 5", p.nodes)
	}
	return p, nil
}

// key tells plans apart for sharing.
func (p *plan) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %s %q %q", p.version, p.nodes, p.protocol, p.format, p.java)
	for _, k := range slices.Sorted(maps.Keys(p.properties)) {
		fmt.Fprintf(&b, " %s=%q", k, p.properties[k])
	}
	for _, id := range slices.Sorted(maps.Keys(p.perNode)) {
		for _, k := range slices.Sorted(maps.Keys(p.perNode[id])) {
			fmt.Fprintf(&b, " %d.%s=%q", id, k, p.perNode[id][k])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.advertised)) {
		fmt.Fprintf(&b, " %d@%s", id, p.advertised[id])
	}
	return b.String()
}

// Nodes sets the number of nodes, each broker and controller at once. 1 is the default.
func Nodes(n int) Option { return func(p *plan) { p.nodes = n } }

// Version sets the version of Apache Kafka: Kafka43 (the default) or Kafka39.
func Version(v string) Option { return func(p *plan) { p.version = v } }

// Property sets a broker property on every node, over testkit's own.
func Property(key, value string) Option { return func(p *plan) { p.properties[key] = value } }

// NodeProperty sets a broker property on one node, over all others. Nodes count from 1.
func NodeProperty(node int, key, value string) Option {
	return func(p *plan) {
		if p.perNode[node] == nil {
			p.perNode[node] = map[string]string{}
		}
		p.perNode[node][key] = value
	}
}

// Advertise makes a node tell clients another address (HOST:PORT) than the one it listens on, as
// that of a proxy. Brokers and controllers go on to talk to each other directly.
func Advertise(node int, addr string) Option { return func(p *plan) { p.advertised[node] = addr } }

// ClientProtocol sets the security protocol of the listener for clients (PLAINTEXT, SSL,
// SASL_PLAINTEXT or SASL_SSL); the listener's name is CLIENT, for properties such as
// listener.name.client.scram-sha-256.sasl.jaas.config. Traffic inside the cluster stays plain.
func ClientProtocol(protocol string) Option { return func(p *plan) { p.protocol = protocol } }

// PlainUsers has clients sign on by SASL PLAIN as one of the users, each with its password, in
// the clear. ACLs decide what each may do; user admin may do all.
func PlainUsers(passwords map[string]string) Option {
	const l = "listener.name.client."
	login := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	for _, user := range slices.Sorted(maps.Keys(passwords)) {
		login += fmt.Sprintf(" user_%s=%q", user, passwords[user])
	}
	options := []Option{ClientProtocol("SASL_PLAINTEXT"),
		Property("sasl.enabled.mechanisms", "PLAIN"), Property(l+"sasl.enabled.mechanisms", "PLAIN"),
		Property(l+"plain.sasl.jaas.config", login+";"),
		Property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
		Property("super.users", "User:admin;User:ANONYMOUS")} // nodes talk to one another in the clear
	return func(p *plan) {
		for _, set := range options {
			set(p)
		}
	}
}

// FormatArgs adds arguments to the storage tool's format command, as --add-scram.
func FormatArgs(args ...string) Option {
	return func(p *plan) { p.format = append(p.format, args...) }
}

// JavaArgs adds options to the nodes' JVMs, after testkit's own.
func JavaArgs(args ...string) Option { return func(p *plan) { p.java = append(p.java, args...) } }
