package acl

import (
	"fmt"
	"strings"
)

// Lockout tells why a change from one set of rules to another would leave the
// tenant to nobody, nil if it would not: nobody who may change the rules is left
// where there was somebody, or everybody is denied everything.
//
// Who may change the rules are super users, and those who may ALTER the cluster
// from any host: everybody, where a lenient index has no rule of the cluster.
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
	return len(x.supers) > 0 || x.open() || x.ruled(func(string) bool { return true })
}

// open tells whether everybody may change the rules, since none is about the cluster.
func (x *Index) open() bool {
	_, found := x.gather(Subject{}, Cluster, ClusterName)
	return x.lenient && !found
}

// AdministeredBy tells whether one of some principals (such as User:alice) may change the rules.
func (x *Index) AdministeredBy(some func(principal string) bool) bool {
	for p := range x.supers {
		if some(p) {
			return true
		}
	}
	return x.open() || x.ruled(func(p string) bool { return p == Everyone || some(p) })
}

// ruled tells whether a rule lets one of some principals change the rules.
func (x *Index) ruled(some func(principal string) bool) bool {
	for _, b := range x.rules {
		if b.Type == Cluster && b.Permission == Allow && (b.Operation == Alter || b.Operation == All) && some(b.Principal) &&
			x.Allowed(Subject{Principal: b.Principal, Host: Host(b.Host)}, Alter, Cluster, ClusterName) {
			return true
		}
	}
	return false
}

// LastAdmin tells why a user should not go, nil if it may: it may change the rules, and none of those who are left and
// have a password may. Who signs on by a certificate or a token alone is not known here, and does not count.
func (x *Index) LastAdmin(user string, left func(user string) bool) error {
	const kind = "User:"
	goes := func(p string) bool { return p == kind+user }
	stays := func(p string) bool {
		name, ok := strings.CutPrefix(p, kind)
		return ok && name != user && left(name)
	}
	if x.AdministeredBy(goes) && !x.AdministeredBy(stays) {
		return &LockoutError{"it is the last user with a password who may change the rules"}
	}
	return nil
}
