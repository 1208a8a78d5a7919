package acl

import (
	"net/netip"
	"slices"
	"strings"
)

// Subject is who asks: a connection makes one and keeps it.
type Subject struct {
	Principal string // such as User:alice
	Host      string // as [Host] gives it
}

// Host is the one spelling of an address under which rules and clients meet;
// what is no address stays as it is.
func Host(s string) string {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return s
	}
	return a.Unmap().WithZone("").String()
}

// Index holds the rules of a tenant, made ready for decisions. It is immutable.
// A decision costs one look-up for the literal name, a binary search in the
// prefixes, and two look-ups for each pattern that matches; it allocates nothing.
type Index struct {
	types  [User + 1]resources
	supers map[string]bool
	// lenient allows what no rule speaks of (allow.everyone.if.no.acl.found).
	lenient bool
	rules   []Binding
}

// resources are the rules about one resource type.
type resources struct {
	literals map[string]*entries
	any      *entries // of the literal name *
	prefixes []prefix // sorted
}

// prefix is the rules of one prefix. The prefixes of a name are a chain: the
// longest one is found, the others are its ancestors.
type prefix struct {
	name    string
	parent  int // index of the longest other prefix of name; -1 for none
	entries *entries
}

// entries are the rules of one pattern, by principal.
type entries struct {
	everyone *hosts
	by       map[string]*hosts
}

// hosts are the rules of one principal.
type hosts struct {
	any masks
	by  map[string]masks
}

// masks are sets of operations, bit by bit; what an allowed operation implies is
// in allow already.
type masks struct{ allow, deny uint32 }

const allOperations = ^uint32(0)

// bits are what a rule allows or denies. DESCRIBE follows from several
// operations and DESCRIBE_CONFIGS from ALTER_CONFIGS, if they are allowed, and
// from none that is denied.
func bits(o Operation, p Permission) uint32 {
	if o == All {
		return allOperations
	}
	m := uint32(1) << o
	if p == Allow {
		switch o {
		case Read, Write, Delete, Alter:
			m |= 1 << Describe
		case AlterConfigs:
			m |= 1 << DescribeConfigs
		}
	}
	return m
}

func (m *masks) add(b *Binding) {
	if b.Permission == Allow {
		m.allow |= bits(b.Operation, Allow)
	} else {
		m.deny |= bits(b.Operation, Deny)
	}
}

func (e *entries) add(b *Binding) {
	var h *hosts
	if b.Principal == Everyone {
		if e.everyone == nil {
			e.everyone = &hosts{}
		}
		h = e.everyone
	} else {
		if h = e.by[b.Principal]; h == nil {
			h = &hosts{}
			if e.by == nil {
				e.by = map[string]*hosts{}
			}
			e.by[b.Principal] = h
		}
	}
	if b.Host == Wildcard {
		h.any.add(b)
		return
	}
	if h.by == nil {
		h.by = map[string]masks{}
	}
	host := Host(b.Host)
	m := h.by[host]
	m.add(b)
	h.by[host] = m
}

// Options of [Compile].
type Options struct {
	// SuperUsers may do everything, whatever the rules say, such as User:admin.
	SuperUsers []string
	// Lenient allows what no rule speaks of: Kafka's allow.everyone.if.no.acl.found.
	Lenient bool
}

// Compile makes an index. Rules that [Binding.Validate] refuses are left out:
// they come from a release that knows more than this one, or from nowhere.
func Compile(rules []Binding, o Options) *Index {
	x := &Index{supers: make(map[string]bool, len(o.SuperUsers)), lenient: o.Lenient, rules: make([]Binding, 0, len(rules))}
	for _, s := range o.SuperUsers {
		x.supers[s] = true
	}
	prefixes := [len(x.types)]map[string]*entries{}
	for i := range rules {
		b := &rules[i]
		if b.Validate() != nil {
			continue
		}
		x.rules = append(x.rules, *b)
		r := &x.types[b.Type]
		var e *entries
		switch {
		case b.Pattern == Prefixed:
			if prefixes[b.Type] == nil {
				prefixes[b.Type] = map[string]*entries{}
			}
			e = at(prefixes[b.Type], b.Name)
		case b.Name == Wildcard:
			if r.any == nil {
				r.any = &entries{}
			}
			e = r.any
		default:
			if r.literals == nil {
				r.literals = map[string]*entries{}
			}
			e = at(r.literals, b.Name)
		}
		e.add(b)
	}
	slices.SortFunc(x.rules, Compare)
	for t := range prefixes {
		x.types[t].prefixes = chain(prefixes[t])
	}
	return x
}

func at(m map[string]*entries, name string) *entries {
	e := m[name]
	if e == nil {
		e = &entries{}
		m[name] = e
	}
	return e
}

// chain sorts prefixes and finds each one's parent.
func chain(m map[string]*entries) []prefix {
	list := make([]prefix, 0, len(m))
	for name, e := range m {
		list = append(list, prefix{name: name, parent: -1, entries: e})
	}
	slices.SortFunc(list, func(a, b prefix) int { return strings.Compare(a.name, b.name) })
	for i := range list {
		// Everything between a prefix of this one and this one begins with that
		// prefix, so the parent is the one before or an ancestor of it.
		p := i - 1
		for p >= 0 && !strings.HasPrefix(list[i].name, list[p].name) {
			p = list[p].parent
		}
		list[i].parent = p
	}
	return list
}

// longest returns the index of the longest prefix of name, -1 for none.
func (r *resources) longest(name string) int {
	lo, hi := 0, len(r.prefixes)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if r.prefixes[mid].name <= name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	i := lo - 1
	for i >= 0 && !strings.HasPrefix(name, r.prefixes[i].name) {
		i = r.prefixes[i].parent
	}
	return i
}

// gather unites what the patterns that match a name say of the subject; found
// tells whether there are rules about the name at all, whomever they name.
func (x *Index) gather(s Subject, t ResourceType, name string) (m masks, found bool) {
	if t < 0 || int(t) >= len(x.types) {
		return masks{}, false
	}
	r := &x.types[t]
	if r.any != nil {
		found = true
		r.any.gather(s, &m)
	}
	if e := r.literals[name]; e != nil {
		found = true
		e.gather(s, &m)
	}
	for i := r.longest(name); i >= 0; i = r.prefixes[i].parent {
		found = true
		r.prefixes[i].entries.gather(s, &m)
	}
	return m, found
}

func (e *entries) gather(s Subject, into *masks) {
	if e.everyone != nil {
		e.everyone.gather(s, into)
	}
	if h := e.by[s.Principal]; h != nil {
		h.gather(s, into)
	}
}

func (h *hosts) gather(s Subject, into *masks) {
	into.allow |= h.any.allow
	into.deny |= h.any.deny
	if h.by != nil {
		m := h.by[s.Host]
		into.allow |= m.allow
		into.deny |= m.deny
	}
}

// Granted returns the set of all operations that the subject may do on a
// resource, bit by bit.
func (x *Index) Granted(s Subject, t ResourceType, name string) uint32 {
	if x.supers[s.Principal] {
		return allOperations
	}
	m, found := x.gather(s, t, name)
	if !found && x.lenient {
		return allOperations
	}
	return m.allow &^ m.deny
}

// Allowed decides.
func (x *Index) Allowed(s Subject, o Operation, t ResourceType, name string) bool {
	return x.Granted(s, t, name)&(1<<o) != 0
}

// Operations is the set of the operations that exist on a resource type and that
// the subject may do, as answers to clients hold it.
func (x *Index) Operations(s Subject, t ResourceType, name string) int32 {
	return int32(x.Granted(s, t, name)) & Supported(t)
}

// Super tells whether a principal may do everything.
func (x *Index) Super(principal string) bool { return x.supers[principal] }

// Rules returns all rules, in the order of [Compare]. The result is never changed.
func (x *Index) Rules() []Binding { return x.rules }
