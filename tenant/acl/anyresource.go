package acl

import "strings"

// AllowedSomewhere tells whether the subject may do something on at least one
// resource of a type, as Kafka's Authorizer.authorizeByResourceType decides it:
// no operation follows from another here, and a literal or a prefix that is
// allowed counts unless the same literal or a prefix of it is denied. It walks
// all rules of the type.
func (x *Index) AllowedSomewhere(s Subject, o Operation, t ResourceType) bool {
	// Kafka asks about a name that it made up, so that super users pass whatever
	// is denied; a rule about that name counts too.
	if x.Allowed(s, o, t, "hardcode") {
		return true
	}
	about := func(b *Binding) bool {
		return b.Type == t && (b.Host == Wildcard || Host(b.Host) == s.Host) &&
			(b.Principal == s.Principal || b.Principal == Everyone) && (b.Operation == o || b.Operation == All)
	}
	denied := [2]map[string]bool{{}, {}} // literals, prefixes
	for i := range x.rules {
		b := &x.rules[i]
		if b.Permission != Deny || !about(b) {
			continue
		}
		switch {
		case b.Pattern == Prefixed:
			denied[1][b.Name] = true
		case b.Name == Wildcard:
			return false
		default:
			denied[0][b.Name] = true
		}
	}
	for i := range x.rules {
		b := &x.rules[i]
		if b.Permission != Allow || !about(b) {
			continue
		}
		if b.Pattern == Literal && (b.Name == Wildcard || denied[0][b.Name]) {
			if b.Name == Wildcard {
				return true
			}
			continue
		}
		if !dominated(b.Name, denied[1]) {
			return true
		}
	}
	return false
}

// dominated tells whether one of the prefixes is name's. It takes as long as the
// fewer of them: a tenant's rules are its own choice, and the time is everybody's.
func dominated(name string, prefixes map[string]bool) bool {
	if len(prefixes) > len(name) {
		for n := range len(name) + 1 {
			if prefixes[name[:n]] {
				return true
			}
		}
		return false
	}
	for p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
