package acl

import "fmt"

// Lockout tells why a change from one set of rules to another would leave the
// tenant to nobody, nil if it would not: nobody who may change the rules is left
// where there was somebody, or everybody is denied everything.
//
// Who may change the rules are super users, and those who may ALTER the cluster
// from any host.
func Lockout(before, after *Index) error {
	// What was there before is nothing that the change does.
	was := map[Binding]bool{}
	for _, b := range before.rules {
		was[b] = deniesAll(b)
	}
	for _, b := range after.rules {
		if deniesAll(b) && !was[b] {
			return &LockoutError{fmt.Sprintf("it would deny everybody everything on every %s (%s)", b.Type, b)}
		}
	}
	if before.Administered() && !after.Administered() {
		return &LockoutError{"nobody would be left who may change the rules: there are no super users, and no principal may ALTER the cluster"}
	}
	return nil
}

// deniesAll tells whether a rule denies everybody everything on all resources of a type.
func deniesAll(b Binding) bool {
	return b.Permission == Deny && b.Principal == Everyone && b.Host == Wildcard && b.Operation == All && b.Pattern == Literal && b.Name == Wildcard
}

// LockoutError refuses a change that would lock a tenant's users out.
type LockoutError struct{ Why string }

func (e *LockoutError) Error() string { return "refused: " + e.Why }

// Administered tells whether somebody may change the rules.
func (x *Index) Administered() bool {
	if len(x.supers) > 0 {
		return true
	}
	for _, b := range x.rules {
		if b.Type == Cluster && b.Permission == Allow && (b.Operation == Alter || b.Operation == All) &&
			x.Allowed(Subject{Principal: b.Principal, Host: Host(b.Host)}, Alter, Cluster, ClusterName) {
			return true
		}
	}
	return false
}
