package gateway

// AlterClientQuotas, key 49, versions 0 to 1.
//
// Like Apache Kafka: each entity is changed by itself, a value that is not positive
// is refused.
//
// Difference: the name of an ip entity is an address, not a host's name; its
// connection_creation_rate is kept and told, and holds nobody back.

import (
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/quota"
	"github.com/braidstream/braid/tenant/rules"
	"github.com/braidstream/braid/wire"
)

func alterClientQuotas(call *call, req *kmsg.AlterClientQuotasRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterClientQuotasResponse()
	errs := make([]error, len(req.Entries))
	var changes []quota.Change
	var at []int
	denied := call.onCluster(acl.AlterConfigs)
	for i := range req.Entries {
		e := &req.Entries[i]
		if denied != wire.None {
			errs[i] = denied
			continue
		}
		c := quota.Change{Values: make(map[string]*float64, len(e.Ops))}
		for j := range e.Entity {
			c.Entity = append(c.Entity, catalog.EntityPart{Type: e.Entity[j].Type, Name: e.Entity[j].Name})
		}
		for j := range e.Ops {
			op := &e.Ops[j]
			if _, twice := c.Values[op.Key]; twice {
				errs[i] = invalidRequest("Duplicate quota key %.60s", op.Key)
			}
			c.Values[op.Key] = nil
			if !op.Remove {
				c.Values[op.Key] = &op.Value
			}
		}
		if errs[i] == nil {
			changes, at = append(changes, c), append(at, i)
		}
	}
	if len(changes) > 0 {
		ctx, cancel := call.limited(0)
		for i, err := range call.g.rules.AlterQuotas(ctx, call.tenant, changes, rules.Options{DryRun: req.ValidateOnly}) {
			errs[at[i]] = err
		}
		cancel()
	}
	for i := range req.Entries {
		r := kmsg.NewAlterClientQuotasResponseEntry()
		for j := range req.Entries[i].Entity {
			p := kmsg.NewAlterClientQuotasResponseEntryEntity()
			p.Type, p.Name = req.Entries[i].Entity[j].Type, req.Entries[i].Entity[j].Name
			r.Entity = append(r.Entity, p)
		}
		slices.SortFunc(r.Entity, func(a, b kmsg.AlterClientQuotasResponseEntryEntity) int { return strings.Compare(a.Type, b.Type) })
		if errs[i] != nil {
			r.ErrorCode, r.ErrorMessage = call.refusal(errs[i])
		}
		resp.Entries = append(resp.Entries, r)
	}
	return resp
}
