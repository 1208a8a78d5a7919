package rules

import (
	"context"
	"errors"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/quota"
	"github.com/braidstream/braid/wire"
)

// MaxQuotas bounds the entities of one tenant that have quotas.
const MaxQuotas = 20_000

// MaxQuotaBytes bounds the names of those entities together.
const MaxQuotaBytes = 8 << 20

// AlterQuotas makes changes and returns an error for each, nil for those that were
// made. An entity that is named twice is refused.
func (s *Store) AlterQuotas(ctx context.Context, tenant string, changes []quota.Change, o Options) []error {
	errs := make([]error, len(changes))
	fail := func(err error) []error {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
		return errs
	}
	times := map[string]int{}
	for _, c := range changes {
		times[catalog.EntityKey(c.Entity)]++
	}
	for {
		now, err := s.Catalog.Quotas(ctx, tenant)
		if err != nil {
			return fail(err)
		}
		known := make(map[string]catalog.ClientQuota, len(now))
		for _, q := range now {
			known[catalog.EntityKey(q.Entity)] = q
		}
		clear(errs)
		var next []catalog.ClientQuota
		for i, c := range changes {
			key := catalog.EntityKey(c.Entity)
			if times[key] > 1 {
				errs[i] = refuse(wire.InvalidRequest, "Ignoring duplicate entity %.200s", quota.Text(c.Entity))
				continue
			}
			q, there := known[key]
			values, err := c.Apply(q.Values)
			if err != nil {
				errs[i] = invalid(err)
				continue
			}
			if !there && len(values) == 0 {
				continue
			}
			q.Entity, q.Values = c.Entity, values
			next = append(next, q)
		}
		switch {
		case tooMany(known, next):
			return fail(refuse(wire.PolicyViolation, "a tenant has quotas for at most %d entities", MaxQuotas))
		case tooLong(known, next):
			return fail(refuse(wire.PolicyViolation, "the names of a tenant's entities that have quotas are at most %d bytes together", MaxQuotaBytes))
		case len(next) == 0 || o.DryRun:
			return errs
		}
		revision, err := s.Catalog.PutQuotas(ctx, tenant, next)
		if errors.Is(err, catalog.ErrConflict) && !errors.Is(err, catalog.ErrNoTenant) && ctx.Err() == nil {
			continue // somebody else was quicker: what holds now is changed
		}
		if err != nil {
			return fail(err)
		}
		s.saw(ctx, revision)
		return errs
	}
}

// tooMany tells whether changes would leave more entities than there may be. What
// makes them no more than they are is always allowed.
func tooMany(known map[string]catalog.ClientQuota, next []catalog.ClientQuota) bool {
	n := len(known)
	for _, q := range next {
		_, there := known[catalog.EntityKey(q.Entity)]
		switch {
		case there && len(q.Values) == 0:
			n--
		case !there:
			n++
		}
	}
	return n > MaxQuotas && n > len(known)
}

// tooLong is tooMany for the bytes of the entities' names.
func tooLong(known map[string]catalog.ClientQuota, next []catalog.ClientQuota) bool {
	before, after := 0, 0
	for _, q := range known {
		before += nameBytes(q.Entity)
	}
	after = before
	for _, q := range next {
		_, there := known[catalog.EntityKey(q.Entity)]
		switch {
		case there && len(q.Values) == 0:
			after -= nameBytes(q.Entity)
		case !there:
			after += nameBytes(q.Entity)
		}
	}
	return after > MaxQuotaBytes && after > before
}

func nameBytes(entity []catalog.EntityPart) int {
	n := 0
	for _, p := range entity {
		if p.Name != nil {
			n += len(*p.Name)
		}
	}
	return n
}
