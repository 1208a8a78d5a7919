package acl

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Standing says who may change a tenant's rules, from nobody on; more is better.
type Standing int

const (
	// Nobody may change the rules.
	Nobody Standing = iota
	// Strangers may: principals of whom it is not known whether anybody signs on as them, by a certificate or a token.
	Strangers
	// Known ones may, who can sign on.
	Known
)

// maxLooked bounds the decisions that one look at who is left takes: beyond, nobody more is found.
const maxLooked = 100_000

// Standing tells who may change the rules: super users, those who may ALTER the cluster, and everybody where the tenant
// has neither rules nor super users, or is lenient and has no rule of the cluster. known are principals, such
// as User:alice, as which somebody can sign on.
func (x *Index) Standing(known map[string]bool) Standing {
	all := Strangers
	if len(known) > 0 {
		all = Known
	}
	if x.unguarded() || x.open() {
		return all
	}
	found := Nobody
	for p := range x.supers {
		if known[p] {
			return Known
		}
		found = Strangers
	}
	looked := 0
	for _, b := range x.rules {
		if b.Type != Cluster || b.Permission != Allow || b.Operation != Alter && b.Operation != All {
			continue
		}
		host := Host(b.Host)
		if !x.Allowed(Subject{Principal: b.Principal, Host: host}, Alter, Cluster, ClusterName) {
			continue
		}
		if known[b.Principal] {
			return Known
		}
		found = Strangers
		if b.Principal != Everyone {
			continue
		}
		for p := range known { // others may be denied by their names
			if looked++; looked > maxLooked {
				return found
			}
			if x.Allowed(Subject{Principal: p, Host: host}, Alter, Cluster, ClusterName) {
				return Known
			}
		}
	}
	return found
}

// unguarded tells whether nothing is guarded: who is let in may do everything.
func (x *Index) unguarded() bool { return len(x.rules) == 0 && len(x.supers) == 0 && !x.lenient }

// Lockout tells why a change from one set of rules to another would lock a tenant's users out, nil if it would not:
// everybody is denied everything, or after it there is nobody any more who may change the rules, of those who are
// known where there was one ([Index.Standing]). So it asks one question, whatever is changed: rules, super users, or
// lenience. That lenience lets everybody change the rules is not missed where it ends, as long as somebody is named.
func Lockout(before, after *Index, known map[string]bool) error {
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
	had, has := before.Standing(known), after.Standing(known)
	if before.lenient && !after.lenient && before.open() {
		had = min(had, Strangers)
	}
	if has >= had {
		return nil
	}
	if has == Strangers {
		return &LockoutError{"no user with a password would be left who may change the rules: those who may are " + after.admins() +
			", of whom none is such a user; who signs on by a certificate or a token is not known here"}
	}
	why := "nobody would be left who may change the rules: there are no super users, and no principal may ALTER the cluster"
	if before.unguarded() {
		why = "from the first rule or super user on, only who is named may change the rules, and " + why + ". First name a super user, or allow somebody to ALTER the cluster"
	}
	return &LockoutError{why}
}

// admins names the first of those who may change the rules, of an index that names any.
func (x *Index) admins() string {
	who := map[string]bool{}
	for p := range x.supers {
		who[p] = true
	}
	x.ruled(func(p string) bool { who[p] = true; return false })
	const most = 5
	names := slices.Sorted(maps.Keys(who))
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

// deniesAll tells whether a rule denies everybody everything on all resources of a type. There is one cluster.
func deniesAll(b Binding) bool {
	if b.Permission != Deny || b.Principal != Everyone || b.Host != Wildcard || b.Operation != All {
		return false
	}
	if b.Type == Cluster && (b.Pattern == Literal && b.Name == ClusterName || b.Pattern == Prefixed && strings.HasPrefix(ClusterName, b.Name)) {
		return true
	}
	return b.Pattern == Literal && b.Name == Wildcard
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
