package gateway

// DescribeClientQuotas, key 48, versions 0 to 1.
//
// Like Apache Kafka: an entity is selected if it has a part for each component, and
// in a strict request no others.

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/quota"
	"github.com/braidstream/braid/wire"
)

// How a component of DescribeClientQuotas selects.
const (
	matchExact   = kmsg.QuotasMatchType(0)
	matchDefault = kmsg.QuotasMatchType(1)
	matchAny     = kmsg.QuotasMatchType(2)
)

func describeClientQuotas(call *call, req *kmsg.DescribeClientQuotasRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeClientQuotasResponse()
	refuse := func(err error) kmsg.Response {
		resp.ErrorCode, resp.ErrorMessage = call.refusal(err)
		resp.Entries = nil
		return resp
	}
	if code := call.onCluster(acl.DescribeConfigs); code != wire.None {
		return refuse(code)
	}
	seen := map[string]bool{}
	for i := range req.Components {
		c := &req.Components[i]
		switch {
		case c.EntityType == "":
			return refuse(invalidRequest("Unexpected empty filter component entity type"))
		case seen[c.EntityType]:
			return refuse(invalidRequest("Duplicate %.60s filter component entity type", c.EntityType))
		case c.EntityType != quota.UserEntity && c.EntityType != quota.ClientIDEntity && c.EntityType != quota.IPEntity:
			return refuse(&span.RejectedError{Code: wire.UnsupportedVersion, Detail: fmt.Sprintf("Custom entity type '%.60s' not supported", c.EntityType)})
		case c.MatchType == matchExact && c.Match == nil:
			return refuse(invalidRequest("Request specified MATCH_TYPE_EXACT, but set match string to null"))
		case c.MatchType != matchExact && c.MatchType != matchDefault && c.MatchType != matchAny:
			return refuse(invalidRequest("Unknown match type %d", c.MatchType))
		}
		seen[c.EntityType] = true
	}
	if seen[quota.IPEntity] && (seen[quota.UserEntity] || seen[quota.ClientIDEntity]) {
		return refuse(invalidRequest("Invalid entity filter component combination, IP filter component should not be used with user or clientId filter component."))
	}
	call.g.fresh.refresh(call.ctx)
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // null is for errors, and what Kafka's tools fall over
	for _, q := range call.g.watcher.Snapshot().Quotas(call.tenant) {
		if !selects(req, q.Entity) {
			continue
		}
		e := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, p := range q.Entity {
			part := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			part.Type, part.Name = p.Type, p.Name
			e.Entity = append(e.Entity, part)
		}
		// As Kafka has them: the client-id before the user.
		slices.SortFunc(e.Entity, func(a, b kmsg.DescribeClientQuotasResponseEntryEntity) int { return strings.Compare(a.Type, b.Type) })
		for _, k := range slices.SortedFunc(maps.Keys(q.Values), inKafkasOrder) {
			v := kmsg.NewDescribeClientQuotasResponseEntryValue()
			v.Key, v.Value = k, q.Values[k]
			e.Values = append(e.Values, v)
		}
		resp.Entries = append(resp.Entries, e)
	}
	return resp
}

// kafkasOrder is that of the answers of an Apache Kafka node, and of what clients have come to expect.
var kafkasOrder = []string{"consumer_byte_rate", "request_percentage", "producer_byte_rate"}

func inKafkasOrder(a, b string) int {
	rank := func(key string) int {
		if i := slices.Index(kafkasOrder, key); i >= 0 {
			return i
		}
		return len(kafkasOrder)
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b))
}

// selects tells whether a request's components select an entity.
func selects(req *kmsg.DescribeClientQuotasRequest, entity []catalog.EntityPart) bool {
	if req.Strict && len(entity) != len(req.Components) {
		return false
	}
	for i := range req.Components {
		c := &req.Components[i]
		at := slices.IndexFunc(entity, func(p catalog.EntityPart) bool { return p.Type == c.EntityType })
		if at < 0 {
			return false
		}
		name := entity[at].Name
		switch c.MatchType {
		case matchExact:
			if name == nil || *name != *c.Match {
				return false
			}
		case matchDefault:
			if name != nil {
				return false
			}
		}
	}
	return true
}
