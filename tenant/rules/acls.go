// Package rules changes a tenant's ACLs and client quotas in the catalog: one
// implementation for Kafka's admin keys and for the admin API.
//
// A refusal that is the caller's fault is a *span.RejectedError with Kafka's code
// and words for people; any other error is the catalog's.
package rules

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// Store keeps rules. Its methods may be called concurrently and return when the
// change is in this process's snapshots.
type Store struct {
	Catalog *catalog.Catalog
	Watcher *catalog.Watcher
	Logger  *slog.Logger
}

// MaxACLs bounds the rules of one tenant.
const MaxACLs = 20_000

// MaxACLBytes bounds the names, principals and hosts of those rules together.
const MaxACLBytes = 16 << 20

// maxSelected bounds what the filters of one request select together: each tells
// all that it does, and a request holds very many of them.
const maxSelected = 5 * MaxACLs

// Options of a change.
type Options struct {
	// Operator: who asks administers the fleet, and can always change the rules
	// again. A tenant's own admin cannot, if the change leaves none.
	Operator bool
	// Asker is the principal that asks by Kafka's protocol, such as User:alice: it can sign on.
	Asker string
	// Force makes the change whomever it locks out.
	Force bool
	// DryRun changes nothing.
	DryRun bool
}

func refuse(code wire.Code, format string, args ...any) error {
	return &span.RejectedError{Code: code, Detail: fmt.Sprintf(format, args...)}
}

func invalid(err error) error {
	return &span.RejectedError{Code: wire.InvalidRequest, Detail: err.Error()}
}

// holding is what holds of a tenant's rules.
type holding struct {
	at      catalog.RulesAt // a write under it finds everything as it is here
	records []catalog.ACL
	rules   []acl.Binding
	options acl.Options
}

// current reads what holds now, linearizably.
func (s *Store) current(ctx context.Context, tenant string) (h holding, err error) {
	if h.at, err = s.Catalog.RulesAt(ctx, tenant); err != nil {
		return h, err
	}
	t, err := s.Catalog.Tenant(ctx, tenant)
	if err != nil {
		return h, err
	}
	h.options = acl.Options{SuperUsers: t.SuperUsers, Lenient: t.Lenient}
	if h.records, err = s.Catalog.ACLs(ctx, tenant); err != nil {
		return h, err
	}
	for i := range h.records {
		if b, err := acl.FromRecord(&h.records[i]); err == nil {
			h.rules = append(h.rules, b)
		}
	}
	return h, nil
}

// quicker tells whether a write failed since somebody else was quicker: what holds
// now is to be looked at again, so that two changes that are harmless each do not
// lock everybody out together.
func quicker(ctx context.Context, err error) bool {
	return errors.Is(err, catalog.ErrConflict) && !errors.Is(err, catalog.ErrNoTenant) && ctx.Err() == nil
}

// lockout tells why a change must not be made without force.
func (s *Store) lockout(ctx context.Context, tenant string, before, after []acl.Binding, of acl.Options, o Options) error {
	if o.Force {
		return nil
	}
	was, next := acl.Compile(before, of), acl.Compile(after, of)
	var known map[string]bool
	if len(before) == 0 || !slices.Equal(ofCluster(before), ofCluster(after)) { // else those who may change the rules are the same
		var err error
		if known, err = s.known(ctx, tenant, o.Asker); err != nil {
			return err
		}
	}
	err := acl.Lockout(was, next, known)
	switch {
	case err != nil:
	case !o.Operator && len(after) > 0 && !next.Administered():
		// Without rules everybody is an admin.
		err = &acl.LockoutError{Why: "nobody could change the rules afterwards: first allow somebody to ALTER the cluster, or have the operator name a super user"}
	case len(before) > 0 && len(after) == 0 && len(of.SuperUsers) == 0 && !of.Lenient:
		// Where lenience is, this is what holds of each resource whose last rule goes.
		err = &acl.LockoutError{Why: "it is the last rule, and there is no super user: without either, everybody who is let in may do everything"}
	}
	if err == nil {
		return nil
	}
	return refuse(wire.PolicyViolation, "%v", err)
}

// ofCluster are the rules of the cluster among some, sorted.
func ofCluster(rules []acl.Binding) []acl.Binding {
	out := slices.DeleteFunc(slices.Clone(rules), func(b acl.Binding) bool { return b.Type != acl.Cluster })
	slices.SortFunc(out, acl.Compare)
	return out
}

// known reads as whom somebody can sign on: the users with a password, and who asks.
func (s *Store) known(ctx context.Context, tenant, asker string) (map[string]bool, error) {
	users, err := s.Catalog.Users(ctx, tenant)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool, len(users)+1)
	for i := range users {
		if len(users[i].Credentials) > 0 {
			known["User:"+users[i].Name] = true
		}
	}
	if asker != "" {
		known[asker] = true
	}
	return known, nil
}

// CreateACLs adds rules to a tenant and returns an error for each, nil for those
// that are there now. Bad ones do not keep the others from being added; a change
// that would lock everybody out is refused as a whole.
func (s *Store) CreateACLs(ctx context.Context, tenant string, asked []acl.Binding, o Options) []error {
	errs := make([]error, len(asked))
	all := func(err error) []error {
		for i := range errs {
			if errs[i] == nil {
				errs[i] = err
			}
		}
		return errs
	}
	var good []acl.Binding
	for i, b := range asked {
		if err := b.Validate(); err != nil {
			errs[i] = invalid(err)
			continue
		}
		good = append(good, b)
	}
	if len(good) == 0 {
		return errs
	}
	records := make([]catalog.ACL, len(good))
	for i, b := range good {
		records[i] = b.Record()
	}
	for {
		now, err := s.current(ctx, tenant)
		if err != nil {
			return all(err)
		}
		after := append(slices.Clone(now.rules), good...)
		slices.SortFunc(after, acl.Compare)
		after = slices.Compact(after)
		if len(after) > MaxACLs {
			return all(refuse(wire.PolicyViolation, "%d rules: a tenant has at most %d", len(after), MaxACLs))
		}
		if n := textBytes(after); n > MaxACLBytes && n > textBytes(now.rules) {
			return all(refuse(wire.PolicyViolation, "rules with %d bytes of names: a tenant has at most %d", n, MaxACLBytes))
		}
		if err := s.lockout(ctx, tenant, now.rules, after, now.options, o); err != nil {
			return all(err)
		}
		if o.DryRun {
			return errs
		}
		revision, err := s.Catalog.PutACLsAt(ctx, tenant, records, now.at)
		if quicker(ctx, err) {
			continue
		}
		if err != nil {
			return all(err)
		}
		s.saw(ctx, revision)
		return errs
	}
}

// DeleteACLs removes the rules that filters select, and returns for each filter
// what it selected or an error. A rule that several select is told by each.
func (s *Store) DeleteACLs(ctx context.Context, tenant string, filters []acl.Filter, o Options) (deleted [][]acl.Binding, errs []error) {
	deleted, errs = make([][]acl.Binding, len(filters)), make([]error, len(filters))
	fail := func(err error) ([][]acl.Binding, []error) {
		for i := range errs {
			deleted[i] = nil
			if errs[i] == nil {
				errs[i] = err
			}
		}
		return deleted, errs
	}
	var removed []acl.Binding // by an attempt that others cut short
	for {
		now, err := s.current(ctx, tenant)
		if err != nil {
			return fail(err)
		}
		told := append(slices.Clone(now.rules), removed...)
		slices.SortFunc(told, acl.Compare)
		told = slices.Compact(told)
		clear(errs)
		of, going, err := selected(ctx, told, filters, errs)
		if err != nil {
			return fail(err)
		}
		deleted = of
		after := slices.DeleteFunc(slices.Clone(now.rules), func(b acl.Binding) bool { return going[b] })
		if len(after) == len(now.rules) {
			return deleted, errs
		}
		if err := s.lockout(ctx, tenant, now.rules, after, now.options, o); err != nil {
			return fail(err)
		}
		if o.DryRun {
			return deleted, errs
		}
		records := slices.DeleteFunc(now.records, func(r catalog.ACL) bool {
			b, err := acl.FromRecord(&r)
			return err != nil || !going[b]
		})
		revision, err := s.Catalog.DeleteACLsAt(ctx, tenant, records, now.at)
		if quicker(ctx, err) {
			if revision > 0 { // which of them went is seen when they are read again
				for b := range going {
					removed = append(removed, b)
				}
			}
			continue
		}
		if err != nil {
			return fail(err)
		}
		s.saw(ctx, revision)
		return deleted, errs
	}
}

// selected lists the rules that each filter selects, and all of them together. A
// filter that is none has its error in errs.
func selected(ctx context.Context, rules []acl.Binding, filters []acl.Filter, errs []error) (by [][]acl.Binding, all map[acl.Binding]bool, err error) {
	by, all = make([][]acl.Binding, len(filters)), map[acl.Binding]bool{}
	n := 0
	for i, f := range filters {
		if err := f.Validate(); err != nil {
			errs[i] = invalid(err)
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		for _, b := range rules {
			if !f.Matches(b) {
				continue
			}
			if n++; n > maxSelected {
				return nil, nil, refuse(wire.InvalidRequest, "the filters of one request select at most %d rules together", maxSelected)
			}
			by[i] = append(by[i], b)
			all[b] = true
		}
	}
	return by, all, nil
}

// saw waits until this process's snapshots have a change: the next request of who
// asked must find it.
func (s *Store) saw(ctx context.Context, revision int64) {
	if _, err := s.Watcher.RevisionAtLeast(ctx, revision); err != nil && !errors.Is(err, context.Canceled) {
		s.Logger.Debug("wait for a change of rules", "err", err)
	}
}

func textBytes(rules []acl.Binding) int {
	n := 0
	for i := range rules {
		n += len(rules[i].Name) + len(rules[i].Principal) + len(rules[i].Host)
	}
	return n
}
