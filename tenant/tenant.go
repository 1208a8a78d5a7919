// Package tenant says on whose behalf a request is served. A tenant is a logical
// cluster of its own: its topics, groups and transactional ids are its own
// names, and no other tenant sees them.
package tenant

// Principal is who a connection was authenticated as. The zero value is nobody.
type Principal struct {
	Type string // "User", as in Kafka's principals
	Name string
}

// Anonymous is the principal of a connection that did not authenticate.
func Anonymous() Principal { return Principal{Type: "User", Name: "ANONYMOUS"} }

// String is the principal as Kafka writes it, such as User:alice.
func (p Principal) String() string { return p.Type + ":" + p.Name }
