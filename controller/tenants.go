package controller

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/internal/nearest"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/quota"
)

// TenantChange says what to set of a tenant; what is nil or not named stays.
type TenantChange struct {
	DisplayName *string
	// Clusters that its topics may be placed on; empty: any.
	Clusters *[]string
	// Limits by name ([TenantLimitNames]); 0 is none.
	Limits map[string]int64
	// Defaults are topic configs; a nil value takes one away.
	Defaults map[string]*string
	// Budget by name ([TenantBudgetNames]); nil takes one away.
	Budget map[string]*float64
	// SuperUsers are principals such as User:alice.
	SuperUsers *[]string
	// Lenient allows everybody what no ACL of the resource speaks of.
	Lenient *bool
	// Force sets the super users and lenience whomever that locks out.
	Force bool
}

// Bounds of what a tenant may say of itself.
const (
	MaxTenantName  = 63 // a DNS label: tenants are told apart by server names too
	maxDisplayName = 200
	maxSuperUsers  = 100
	maxPlacement   = 1000
)

// MaxGrace bounds how long a deleted tenant is kept.
const MaxGrace = 365 * 24 * time.Hour

// DefaultGrace is how long a deleted tenant is kept where nobody says otherwise.
const DefaultGrace = 72 * time.Hour

// limitOf finds a limit by its name.
var limitOf = map[string]func(*catalog.TenantLimits) *int64{
	"topics":        func(l *catalog.TenantLimits) *int64 { return &l.Topics },
	"partitions":    func(l *catalog.TenantLimits) *int64 { return &l.Partitions },
	"groups":        func(l *catalog.TenantLimits) *int64 { return &l.Groups },
	"connections":   func(l *catalog.TenantLimits) *int64 { return &l.Connections },
	"storage.bytes": func(l *catalog.TenantLimits) *int64 { return &l.StorageBytes },
	"group.bytes":   func(l *catalog.TenantLimits) *int64 { return &l.GroupBytes },
}

// TenantLimitNames lists the limits that a tenant may have, sorted.
func TenantLimitNames() []string { return slices.Sorted(maps.Keys(limitOf)) }

// TenantBudgetNames lists what a tenant's budget may bound, sorted; the names are Kafka's.
func TenantBudgetNames() []string {
	return []string{"consumer_byte_rate", "controller_mutation_rate", "producer_byte_rate", "request_percentage"}
}

// CheckTenantName tells why a name is no tenant's. It is a DNS label, which leaves
// out everything that a key, a topic name, a user name or a terminal could mistake.
func CheckTenantName(name string) error {
	bad := name == "" || len(name) > MaxTenantName || name[0] == '-' || name[len(name)-1] == '-'
	for i := 0; i < len(name) && !bad; i++ {
		c := name[i]
		bad = (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	}
	if bad {
		return refuse(Invalid, "lower-case letters, digits and '-', at most 63 of them, not '-' at an end", "%.70q is no name for a tenant", name)
	}
	if name == catalog.SystemTenant {
		return refuse(Invalid, "choose another", "the name %s is kept for internal topics", name)
	}
	return nil
}

// CreateTenant makes a tenant.
func (a *Admin) CreateTenant(ctx context.Context, name string, change TenantChange) (catalog.Tenant, error) {
	if err := CheckTenantName(name); err != nil {
		return catalog.Tenant{}, err
	}
	t := catalog.Tenant{Name: name}
	if err := a.applyTenant(&t, change); err != nil {
		return t, err
	}
	if name == catalog.DefaultTenant {
		return t, refuse(Exists, "braid tenant set "+name, "tenant %s exists", name)
	}
	s, err := a.Watcher.Refresh(ctx)
	if err != nil {
		return t, requestError(err, "tenant "+name)
	}
	if u := capturing(s, name); u != nil {
		return t, refuse(Refused, "choose another name, or remove that user (braid user delete)",
			"user %.70q of tenant %s signs on by that name, which would be a user's of tenant %s", u.Name, u.Tenant, name)
	}
	t, err = a.Catalog.CreateTenant(ctx, t)
	switch {
	case errors.Is(err, catalog.ErrRetired):
		return t, refuse(Exists, "choose another: a name is not given twice", "tenant %s existed and was removed", name)
	case errors.Is(err, catalog.ErrExists):
		return t, refuse(Exists, "braid tenant set "+name, "tenant %s exists", name)
	case err != nil:
		return t, requestError(err, "tenant "+name)
	}
	a.sawTenants(ctx, t.Revision)
	return t, nil
}

// capturing finds a user that signs on by a name which would be one of a tenant that is not there yet; nil: none does.
func capturing(s *catalog.Snapshot, name string) *catalog.User {
	for _, t := range s.Tenants() {
		for _, u := range s.Users(t.Name) {
			if u.Bare != catalog.BareNone && strings.HasSuffix(u.Name, "@"+name) {
				return u
			}
		}
	}
	return nil
}

// sawTenants waits until this process's snapshot has a change: the caller's next
// request, or its next client, must find it.
func (a *Admin) sawTenants(ctx context.Context, revision int64) {
	if _, err := a.Watcher.RevisionAtLeast(ctx, revision); err != nil {
		a.Logger.Debug("wait for a change of tenants", "err", err)
	}
}

// SetTenant changes a tenant.
func (a *Admin) SetTenant(ctx context.Context, name string, change TenantChange) (catalog.Tenant, error) {
	write := a.Catalog.UpdateTenant
	return a.updateTenant(ctx, name, func(t *catalog.Tenant) error {
		if t.State != catalog.TenantActive {
			return refuse(Refused, "braid tenant undelete "+name, "tenant %s is being deleted", name)
		}
		was := *t
		if err := a.applyTenant(t, change); err != nil || change.SuperUsers == nil && change.Lenient == nil || change.Force {
			return err
		}
		at, err := a.superLockout(ctx, &was, t)
		// Of two changes that are harmless each, here and of the rules, one stays.
		write = func(ctx context.Context, t catalog.Tenant) (catalog.Tenant, error) {
			return a.Catalog.UpdateTenantAt(ctx, t, at)
		}
		return err
	}, func(ctx context.Context, t catalog.Tenant) (catalog.Tenant, error) { return write(ctx, t) })
}

// superLockout refuses other super users, and the end of lenience, where nobody would be
// left who may change the tenant's rules, or no rule and nobody to be bound by none. It
// returns what the rules were that it looked at.
func (a *Admin) superLockout(ctx context.Context, was, next *catalog.Tenant) (catalog.RulesAt, error) {
	name := was.Name
	at, err := a.Catalog.RulesAt(ctx, name)
	if err != nil {
		return at, requestError(err, "tenant "+name)
	}
	records, err := a.Catalog.ACLs(ctx, name)
	if err != nil {
		return at, requestError(err, "tenant "+name)
	}
	const hint = "--force does it all the same"
	if len(was.SuperUsers) > 0 && len(next.SuperUsers) == 0 && len(records) == 0 && !was.Lenient {
		return at, refuse(Refused, hint, "tenant %s has no rules, and no super user would be left: without either, everybody who is let in may do everything", name)
	}
	if len(records) == 0 && len(next.SuperUsers) == 0 {
		return at, nil // without rules everybody is an admin
	}
	users, err := a.Catalog.Users(ctx, name)
	if err != nil {
		return at, requestError(err, "users of tenant "+name)
	}
	known := map[string]bool{}
	for _, u := range users {
		known["User:"+u.Name] = len(u.Credentials) > 0
	}
	maps.DeleteFunc(known, func(_ string, has bool) bool { return !has })
	rules := bindings(records)
	before := acl.Compile(rules, acl.Options{SuperUsers: was.SuperUsers, Lenient: was.Lenient})
	after := acl.Compile(rules, acl.Options{SuperUsers: next.SuperUsers, Lenient: next.Lenient})
	var lost *acl.LockoutError
	if err := acl.Lockout(before, after, known); errors.As(err, &lost) {
		return at, refuse(Refused, hint+meant(next.SuperUsers, known), "tenant %s: %s", name, lost.Why)
	}
	return at, nil
}

// meant tells which users may have been meant by super users that are none.
func meant(supers []string, known map[string]bool) string {
	all := slices.Sorted(maps.Keys(known))
	var likely []string
	for _, p := range supers {
		if n := nearest.Name(p, all); !known[p] && n != "" {
			likely = append(likely, n)
		}
	}
	if len(likely) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(likely, ", ") + "?"
}

// updateTenant reads, changes and writes a tenant, again if another was quicker.
func (a *Admin) updateTenant(ctx context.Context, name string, change func(*catalog.Tenant) error,
	write func(context.Context, catalog.Tenant) (catalog.Tenant, error)) (catalog.Tenant, error) {
	for {
		t, err := a.Catalog.Tenant(ctx, name)
		if errors.Is(err, catalog.ErrNotFound) {
			return t, a.unknownTenant(name)
		} else if err != nil {
			return t, requestError(err, "tenant")
		}
		if err := change(&t); err != nil {
			return t, err
		}
		next, err := write(ctx, t)
		if err == nil {
			a.sawTenants(ctx, next.Revision)
			return next, nil
		}
		if !errors.Is(err, catalog.ErrConflict) && !errors.Is(err, catalog.ErrExists) && !errors.Is(err, catalog.ErrNotFound) {
			return t, requestError(err, "tenant "+name)
		}
	}
}

func (a *Admin) unknownTenant(name string) error {
	return UnknownTenant(a.Watcher.Snapshot(), name)
}

// UnknownTenant says that there is no such tenant, and which one may have been meant.
func UnknownTenant(s *catalog.Snapshot, name string) error {
	var known []string
	for _, t := range s.Tenants() {
		known = append(known, t.Name)
	}
	hint := "braid tenant list"
	if n := nearest.Name(name, known); n != "" {
		hint = "did you mean " + n + "?"
	}
	return refuse(Unknown, hint, "no tenant %.70q", name)
}

// applyTenant checks a change and makes it. Nothing is changed when it fails.
func (a *Admin) applyTenant(t *catalog.Tenant, ch TenantChange) error {
	next := *t
	if ch.DisplayName != nil {
		if err := checkText("display name", *ch.DisplayName, maxDisplayName); err != nil {
			return err
		}
		next.DisplayName = *ch.DisplayName
	}
	if ch.Clusters != nil {
		s := a.Watcher.Snapshot()
		next.Clusters = nil
		for _, c := range *ch.Clusters {
			if s.Cluster(c) == nil {
				return unknownCluster(s, c)
			}
			if !slices.Contains(next.Clusters, c) {
				next.Clusters = append(next.Clusters, c)
			}
		}
		if len(next.Clusters) > maxPlacement {
			return refuse(Invalid, "", "%d clusters: want at most %d", len(next.Clusters), maxPlacement)
		}
		slices.Sort(next.Clusters)
	}
	for _, name := range slices.Sorted(maps.Keys(ch.Limits)) {
		limit, v := limitOf[name], ch.Limits[name]
		if limit == nil {
			return unknownName("limit", name, TenantLimitNames())
		}
		if v < 0 {
			return refuse(Invalid, "0 is no limit", "limit %s of %d", name, v)
		}
		*limit(&next.Limits) = v
	}
	next.Defaults = maps.Clone(t.Defaults)
	for _, k := range slices.Sorted(maps.Keys(ch.Defaults)) {
		if ch.Defaults[k] == nil {
			delete(next.Defaults, k)
			continue
		}
		if next.Defaults == nil {
			next.Defaults = map[string]string{}
		}
		next.Defaults[k] = *ch.Defaults[k]
	}
	if err := checkConfigs(next.Defaults); err != nil {
		return err
	}
	if _, ok := next.Defaults[ConfigCluster]; ok {
		return refuse(Invalid, "name the clusters of the tenant instead", "%s is no default of a tenant", ConfigCluster)
	}
	next.Budget = maps.Clone(t.Budget)
	for _, k := range slices.Sorted(maps.Keys(ch.Budget)) {
		if !slices.Contains(TenantBudgetNames(), k) {
			return unknownName("budget", k, TenantBudgetNames())
		}
		v := ch.Budget[k]
		if v == nil {
			delete(next.Budget, k)
			continue
		}
		if math.IsNaN(*v) || math.IsInf(*v, 0) || *v <= 0 {
			return refuse(Invalid, "take it away to have none", "budget %s of %v: want more than 0", k, *v)
		}
		if err := quota.CheckValue([]catalog.EntityPart{{Type: quota.UserEntity}}, k, *v); err != nil {
			return refuse(Invalid, "a budget may be what a client's quota may", "budget %s of %v: %v", k, *v, err)
		}
		if next.Budget == nil {
			next.Budget = map[string]float64{}
		}
		next.Budget[k] = *v
	}
	if ch.SuperUsers != nil {
		users, err := checkSuperUsers(*ch.SuperUsers)
		if err != nil {
			return err
		}
		next.SuperUsers = users
	}
	if ch.Lenient != nil {
		next.Lenient = *ch.Lenient
	}
	*t = next
	return nil
}

func unknownName(kind, name string, known []string) error {
	hint := strings.Join(known, ", ")
	if n := nearest.Name(name, known); n != "" {
		hint = "did you mean " + n + "?"
	}
	return refuse(Invalid, hint, "unknown %s %.70q", kind, name)
}

func checkSuperUsers(list []string) ([]string, error) {
	if len(list) > maxSuperUsers {
		return nil, refuse(Invalid, "", "%d super users: want at most %d", len(list), maxSuperUsers)
	}
	var out []string
	for _, u := range list {
		name, ok := strings.CutPrefix(u, "User:")
		if !ok || name == "" || name == "*" || name == "ANONYMOUS" {
			return nil, refuse(Invalid, "a principal such as User:alice; not everybody, not nobody", "super user %.70q", u)
		}
		if err := checkText("super user", name, catalog.MaxUserName); err != nil {
			return nil, err
		}
		if !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	slices.Sort(out)
	return out, nil
}

// checkText refuses what could not be shown: control characters, invisible ones
// that make two names look alike, and what is not UTF-8.
func checkText(what, s string, most int) error {
	if len(s) > most {
		return refuse(Invalid, "", "%s of %d bytes: want at most %d", what, len(s), most)
	}
	bad := !utf8.ValidString(s)
	for _, r := range s {
		bad = bad || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
	}
	if bad {
		return refuse(Invalid, "", "%s %.70q holds characters that cannot be shown", what, s)
	}
	return nil
}

// DeleteTenant marks a tenant: its clients are cut off at once, its data goes when
// the grace is over. Until then [Admin.UndeleteTenant] brings it back. A tenant
// that is marked already gets the new grace.
func (a *Admin) DeleteTenant(ctx context.Context, name string, grace time.Duration) (catalog.Tenant, error) {
	if grace < 0 || grace > MaxGrace {
		return catalog.Tenant{}, refuse(Invalid, "", "a grace of %s: want 0 to %s", grace, MaxGrace)
	}
	if name == catalog.DefaultTenant {
		return catalog.Tenant{}, refuse(Refused, "delete its topics instead", "the default tenant cannot be deleted")
	}
	return a.updateTenant(ctx, name, func(t *catalog.Tenant) error {
		if t.State == catalog.TenantRemoving {
			return refuse(Refused, "", "tenant %s is being removed", name)
		}
		t.State, t.DeleteAt = catalog.TenantDeleting, time.Now().UTC().Add(grace).Truncate(time.Second)
		return nil
	}, a.Catalog.UpdateTenant)
}

// UndeleteTenant brings back a tenant whose grace is not over.
func (a *Admin) UndeleteTenant(ctx context.Context, name string) (catalog.Tenant, error) {
	return a.updateTenant(ctx, name, func(t *catalog.Tenant) error {
		switch t.State {
		case catalog.TenantRemoving:
			return refuse(Refused, "", "the grace of tenant %s is over: its topics are going", name)
		case catalog.TenantActive:
			return refuse(Refused, "", "tenant %s is not being deleted", name)
		}
		t.State, t.DeleteAt = catalog.TenantActive, time.Time{}
		return nil
	}, a.Catalog.UpdateTenant)
}
