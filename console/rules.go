package console

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/controller"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/quota"
	"github.com/braidstream/braid/tenant/rules"
	"github.com/braidstream/braid/wire"
)

func bad(err error) error {
	return &api.Error{Status: http.StatusBadRequest, Code: "invalid", Message: err.Error()}
}

// ruleTenant finds the tenant that a request names.
func (s *Server) ruleTenant(r *http.Request) (string, *catalog.Snapshot, error) {
	snap, err := s.opts.Watcher.Refresh(r.Context())
	if err != nil {
		return "", nil, err
	}
	name := r.PathValue("tenant")
	if snap.Tenant(name) == nil {
		return "", nil, controller.UnknownTenant(snap, name)
	}
	return name, snap, nil
}

func (s *Server) acls(r *http.Request) (any, error) {
	tenant, snap, err := s.ruleTenant(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	filter, err := aclFilter(api.ACLFilter{ResourceType: q.Get("resourceType"), ResourceName: q.Get("resourceName"), PatternType: q.Get("patternType"),
		Principal: q.Get("principal"), Host: q.Get("host"), Operation: q.Get("operation"), Permission: q.Get("permission")})
	if err != nil {
		return nil, bad(err)
	}
	out := api.ACLs{ACLs: []api.ACL{}}
	for _, b := range acl.Compile(acl.FromRecords(snap.ACLs(tenant)), acl.Options{}).Rules() {
		if filter.Matches(b) {
			out.ACLs = append(out.ACLs, aclView(b))
		}
	}
	return out, nil
}

func (s *Server) addACLs(r *http.Request) (any, error) {
	tenant, snap, err := s.ruleTenant(r)
	if err != nil {
		return nil, err
	}
	req, err := body[api.ACLAdd](r)
	if err != nil {
		return nil, err
	}
	if len(req.ACLs) == 0 {
		return nil, bad(errors.New("no rules were given"))
	}
	asked := make([]acl.Binding, len(req.ACLs))
	for i, a := range req.ACLs {
		rec := catalog.ACL{ResourceType: a.ResourceType, ResourceName: a.ResourceName, PatternType: cmp.Or(a.PatternType, "LITERAL"),
			Principal: a.Principal, Host: cmp.Or(a.Host, acl.Wildcard), Operation: a.Operation, Permission: cmp.Or(a.Permission, "ALLOW")}
		if asked[i], err = acl.FromRecord(&rec); err == nil {
			if err = asked[i].Validate(); err == nil {
				err = asked[i].Meaningful()
			}
		}
		if err != nil {
			return nil, bad(err)
		}
	}
	guarded, lenient := guarded(snap, tenant), snap.Tenant(tenant).Lenient
	for _, err := range s.opts.Rules.CreateACLs(r.Context(), tenant, asked, rules.Options{Operator: true, Force: req.Force, DryRun: req.DryRun}) {
		if err != nil {
			return nil, lockedOut(err)
		}
	}
	out := api.ACLs{}
	for _, b := range asked {
		out.ACLs = append(out.ACLs, aclView(b))
	}
	switch {
	case lenient && len(snap.ACLs(tenant)) == 0:
		out.Notes = append(out.Notes, "this is the first rule of tenant "+tenant+": everybody may still do everything with what no rule is about (braid tenant set "+
			tenant+" --allow-everyone-if-no-acl-found false denies it)")
	case !lenient && !guarded:
		out.Notes = append(out.Notes, "this is the first rule of tenant "+tenant+": from now on, what no rule allows is denied to all but its super users")
	}
	return out, nil
}

// lockedOut tells how a change that was refused for its consequences is made all the same.
func lockedOut(err error) error {
	var rejected *span.RejectedError
	if errors.As(err, &rejected) && rejected.Code == wire.PolicyViolation {
		return &api.Error{Status: http.StatusUnprocessableEntity, Code: "refused", Message: rejected.Detail, Hint: "--force does it all the same"}
	}
	return err
}

// guarded tells whether there are rules or super users already.
func guarded(snap *catalog.Snapshot, tenant string) bool {
	t := snap.Tenant(tenant)
	return len(snap.ACLs(tenant)) > 0 || t != nil && len(t.SuperUsers) > 0
}

func (s *Server) deleteACLs(r *http.Request) (any, error) {
	tenant, _, err := s.ruleTenant(r)
	if err != nil {
		return nil, err
	}
	req, err := body[api.ACLDelete](r)
	if err != nil {
		return nil, err
	}
	filter, err := aclFilter(req.Filter)
	if err != nil {
		return nil, bad(err)
	}
	deleted, errs := s.opts.Rules.DeleteACLs(r.Context(), tenant, []acl.Filter{filter}, rules.Options{Operator: true, Force: req.Force, DryRun: req.DryRun})
	if errs[0] != nil {
		return nil, lockedOut(errs[0])
	}
	out := api.ACLs{ACLs: []api.ACL{}}
	for _, b := range deleted[0] {
		out.ACLs = append(out.ACLs, aclView(b))
	}
	return out, nil
}

func aclView(b acl.Binding) api.ACL {
	r := b.Record()
	return api.ACL{ResourceType: r.ResourceType, ResourceName: r.ResourceName, PatternType: r.PatternType,
		Principal: r.Principal, Host: r.Host, Operation: r.Operation, Permission: r.Permission}
}

func aclFilter(f api.ACLFilter) (acl.Filter, error) {
	out := acl.Everything()
	var errs [4]error
	if f.ResourceType != "" {
		out.Type, errs[0] = acl.ParseResourceType(f.ResourceType)
	}
	if f.PatternType != "" {
		out.Pattern, errs[1] = acl.ParsePatternType(f.PatternType)
	}
	if f.Operation != "" {
		out.Operation, errs[2] = acl.ParseOperation(f.Operation)
	}
	if f.Permission != "" {
		out.Permission, errs[3] = acl.ParsePermission(f.Permission)
	}
	text := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	out.Name, out.Principal, out.Host = text(f.ResourceName), text(f.Principal), text(f.Host)
	return out, errors.Join(errs[:]...)
}

func (s *Server) quotas(r *http.Request) (any, error) {
	tenant, snap, err := s.ruleTenant(r)
	if err != nil {
		return nil, err
	}
	out := []api.Quota{}
	for _, q := range snap.Quotas(tenant) {
		out = append(out, quotaView(q.Entity, q.Values))
	}
	slices.SortFunc(out, func(a, b api.Quota) int { return strings.Compare(entityText(a.Entity), entityText(b.Entity)) })
	return out, nil
}

func (s *Server) setQuota(r *http.Request) (any, error) {
	tenant, _, err := s.ruleTenant(r)
	if err != nil {
		return nil, err
	}
	req, err := body[api.QuotaSet](r)
	if err != nil {
		return nil, err
	}
	change := quota.Change{Values: req.Values}
	for _, p := range req.Entity {
		change.Entity = append(change.Entity, catalog.EntityPart{Type: p.Type, Name: p.Name})
	}
	if err := s.opts.Rules.AlterQuotas(r.Context(), tenant, []quota.Change{change}, rules.Options{Operator: true})[0]; err != nil {
		return nil, err
	}
	key := catalog.EntityKey(change.Entity)
	for _, q := range s.opts.Watcher.Snapshot().Quotas(tenant) {
		if catalog.EntityKey(q.Entity) == key {
			return quotaView(q.Entity, q.Values), nil
		}
	}
	return quotaView(change.Entity, map[string]float64{}), nil
}

func quotaView(entity []catalog.EntityPart, values map[string]float64) api.Quota {
	out := api.Quota{Values: values}
	for _, p := range entity {
		out.Entity = append(out.Entity, api.QuotaEntity{Type: p.Type, Name: p.Name})
	}
	return out
}

func entityText(parts []api.QuotaEntity) string {
	var entity []catalog.EntityPart
	for _, p := range parts {
		entity = append(entity, catalog.EntityPart{Type: p.Type, Name: p.Name})
	}
	return quota.Text(entity)
}
