package catalog

import (
	"maps"
	"slices"
)

// bag holds one kind of a tenant's records by the last part of their keys. It is
// immutable once a snapshot with it is published, so that the same bag in two
// snapshots says that nothing of it differs; the edit that made it writes to it.
type bag[V any] struct {
	gen  uint64
	m    map[string]V
	list []V // in the order of the keys; made when the edit is finished
}

// bags are one kind's bags by tenant.
type bags[V any] map[string]*bag[V]

func (b bags[V]) get(a address) (v V, ok bool) {
	of := b[a.tenant]
	if of == nil {
		return v, false
	}
	v, ok = of.m[a.name]
	return v, ok
}

func (b bags[V]) list(tenant string) []V {
	if of := b[tenant]; of != nil {
		return of.list
	}
	return nil
}

func (b bags[V]) each(k kind, yield func(address)) {
	for tenant, of := range b {
		for name := range of.m {
			yield(address{kind: k, tenant: tenant, name: name})
		}
	}
}

// bagEdit is what an edit does to one kind of bags.
type bagEdit struct {
	owned   bool
	tenants map[string]struct{} // whose bags were changed
}

// writable gives a tenant's bag, owned by the edit gen.
func writable[V any](e *bagEdit, gen uint64, b *bags[V], tenant string) *bag[V] {
	m := map[string]*bag[V](*b)
	own(&e.owned, &m)
	*b = m
	of := m[tenant]
	switch {
	case of == nil:
		of = &bag[V]{gen: gen, m: map[string]V{}}
	case of.gen != gen:
		of = &bag[V]{gen: gen, m: maps.Clone(of.m)}
	}
	m[tenant] = of
	if e.tenants == nil {
		e.tenants = map[string]struct{}{}
	}
	e.tenants[tenant] = struct{}{}
	return of
}

// finishBags puts the changed bags in order and names their tenants.
func finishBags[V any](e *bagEdit, b bags[V]) []string {
	for tenant := range e.tenants {
		of := b[tenant]
		if len(of.m) == 0 {
			delete(b, tenant)
			continue
		}
		of.list = make([]V, 0, len(of.m))
		for _, k := range slices.Sorted(maps.Keys(of.m)) {
			of.list = append(of.list, of.m[k])
		}
	}
	return slices.Sorted(maps.Keys(e.tenants))
}
