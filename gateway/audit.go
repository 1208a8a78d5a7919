package gateway

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/tenant/audit"
	"github.com/braidstream/braid/tenant/quota"
	"github.com/braidstream/braid/wire"
)

// auditItems bounds what one request puts into the audit log; the last line counts
// the rest.
const auditItems = 200

// event begins one of a connection's.
func (c *conn) event(kind string) audit.Event {
	return audit.Event{Kind: kind, Who: c.principal.String(), From: c.peer, Via: c.l.cfg.Name, Tenant: c.tenant}
}

// wasDenied writes down that who asks may not do something.
func (a *asker) wasDenied(o acl.Operation, t acl.ResourceType, name string) {
	if a.g.opts.Audit == nil {
		return
	}
	e := a.c.event(audit.Denied)
	e.Action, e.Resource, e.Detail, e.Result = apiName(a.key), resourceText(t.String(), name), o.String(), "denied"
	a.g.opts.Audit.Record(e)
}

// wasUnknown writes down that somebody could not say who it is. user is the name that
// it gave, if any.
func (c *conn) wasUnknown(mechanism, user, reason string) {
	if c.g.opts.Audit == nil {
		return
	}
	e := c.event(audit.Unauthenticated)
	if e.Who, e.Tenant = user, c.only; e.Tenant == noTenant {
		e.Tenant = ""
	}
	if at := strings.LastIndexByte(user, '@'); c.only == "" && at > 0 {
		// Whom alice@acme failed as is acme's to know. Names that are no tenant's are nobody's: they would be any number.
		if of := user[at+1:]; (tenant.Reach{Snapshot: c.g.watcher.Snapshot()}).Active(of) {
			e.Tenant = of
		}
	}
	e.Action, e.Detail, e.Result = mechanism, reason, "failed"
	c.g.opts.Audit.Record(e)
}

// wasMade writes down that a topic was made because a client asked for its metadata. What is refused there is
// no change that anybody asked for.
func (call *call) wasMade(topic string) {
	if call.g.opts.Audit == nil {
		return
	}
	e := call.c.event(audit.Change)
	e.Action, e.Resource, e.Detail, e.Result = apiName(call.header.Key), resourceText("TOPIC", topic), "created automatically", audit.Done
	call.g.opts.Audit.Record(e)
}

func resourceText(kind, name string) string { return kind + " " + name }

// administers tells whether a key changes what the audit log is about.
func administers(key int16) bool {
	switch key {
	case keyCreateTopics, keyDeleteTopics, keyCreatePartitions, keyDeleteRecords, keyAlterConfigs, keyIncrementalAlterConfigs, keyCreateACLs, keyDeleteACLs,
		keyAlterClientQuotas, keyAlterUserScram, keyDeleteGroups, keyOffsetDelete, keyWriteTxnMarkers, keyElectLeaders,
		keyAlterPartitionReassignments, keyAlterReplicaLogDirs, keyUpdateFeatures:
		return true
	}
	return false
}

// item is one thing that a request changed or would have.
type item struct {
	resource, detail string
	code             int16
}

// audited writes down what an administrative request changed. Requests that only
// look, or only check, are none; what was denied is written where it was.
func (call *call) audited(req kmsg.Request, resp kmsg.Response) {
	if call.g.opts.Audit == nil || resp == nil {
		return
	}
	items := changed(req, resp)
	for i, x := range items {
		code := wire.Code(x.code)
		switch code {
		case wire.TopicAuthorizationFailed, wire.GroupAuthorizationFailed, wire.ClusterAuthorizationFailed, wire.TransactionalIDAuthorizationFailed:
			continue
		}
		e := call.c.event(audit.Change)
		e.Action, e.Resource, e.Detail, e.Result = apiName(call.header.Key), x.resource, x.detail, audit.Done
		if code != wire.None {
			e.Result = code.Name()
		}
		if i == auditItems-1 && len(items) > auditItems {
			e.LeftOut = int64(len(items) - auditItems)
			call.g.opts.Audit.Record(e)
			return
		}
		call.g.opts.Audit.Record(e)
	}
}

// changed lists what an administrative request was about, with the answer to each.
// Passwords, salts and what is derived of them are in none.
func changed(req kmsg.Request, resp kmsg.Response) (out []item) {
	add := func(kind, name, detail string, code int16) {
		out = append(out, item{resourceText(kind, name), detail, code})
	}
	name := func(s *string, id [16]byte) string {
		if s != nil {
			return *s
		}
		return catalog.ID(id).String()
	}
	switch r := resp.(type) {
	case *kmsg.CreateTopicsResponse:
		if q := req.(*kmsg.CreateTopicsRequest); !q.ValidateOnly {
			for i := range r.Topics {
				add("TOPIC", r.Topics[i].Topic, "", r.Topics[i].ErrorCode)
			}
		}
	case *kmsg.DeleteTopicsResponse:
		for i := range r.Topics {
			add("TOPIC", name(r.Topics[i].Topic, r.Topics[i].TopicID), "", r.Topics[i].ErrorCode)
		}
	case *kmsg.CreatePartitionsResponse:
		if q := req.(*kmsg.CreatePartitionsRequest); !q.ValidateOnly {
			for i := range r.Topics {
				add("TOPIC", r.Topics[i].Topic, "", r.Topics[i].ErrorCode)
			}
		}
	case *kmsg.DeleteRecordsResponse:
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				p := &r.Topics[i].Partitions[j]
				add("TOPIC", r.Topics[i].Topic, fmt.Sprintf("partition %d before %d", p.Partition, p.LowWatermark), p.ErrorCode)
			}
		}
	case *kmsg.AlterConfigsResponse:
		if q := req.(*kmsg.AlterConfigsRequest); !q.ValidateOnly {
			for i := range r.Resources {
				add(r.Resources[i].ResourceType.String(), r.Resources[i].ResourceName, "", r.Resources[i].ErrorCode)
			}
		}
	case *kmsg.IncrementalAlterConfigsResponse:
		q := req.(*kmsg.IncrementalAlterConfigsRequest)
		if q.ValidateOnly {
			return nil
		}
		keys := map[string]string{}
		for i := range q.Resources {
			var list []string
			for j := range q.Resources[i].Configs {
				list = append(list, q.Resources[i].Configs[j].Name)
			}
			keys[q.Resources[i].ResourceName] = strings.Join(list, ",")
		}
		for i := range r.Resources {
			add(r.Resources[i].ResourceType.String(), r.Resources[i].ResourceName, keys[r.Resources[i].ResourceName], r.Resources[i].ErrorCode)
		}
	case *kmsg.CreateACLsResponse:
		q := req.(*kmsg.CreateACLsRequest)
		for i := range r.Results {
			if i < len(q.Creations) {
				add("ACL", askedACL(&q.Creations[i]).String(), "", r.Results[i].ErrorCode)
			}
		}
	case *kmsg.DeleteACLsResponse:
		for i := range r.Results {
			if r.Results[i].ErrorCode != 0 || len(r.Results[i].MatchingACLs) == 0 {
				add("ACL", fmt.Sprintf("filter %d", i), "no rule is deleted", r.Results[i].ErrorCode)
			}
			for j := range r.Results[i].MatchingACLs {
				m := &r.Results[i].MatchingACLs[j]
				b := acl.Binding{Type: acl.ResourceType(m.ResourceType), Name: m.ResourceName, Pattern: acl.PatternType(m.ResourcePatternType),
					Principal: m.Principal, Host: m.Host, Operation: acl.Operation(m.Operation), Permission: acl.Permission(m.PermissionType)}
				add("ACL", b.String(), "", m.ErrorCode)
			}
		}
	case *kmsg.AlterClientQuotasResponse:
		if q := req.(*kmsg.AlterClientQuotasRequest); !q.ValidateOnly {
			for i := range r.Entries {
				var entity []catalog.EntityPart
				for _, p := range r.Entries[i].Entity {
					entity = append(entity, catalog.EntityPart{Type: p.Type, Name: p.Name})
				}
				add("QUOTA", quota.Text(entity), "", r.Entries[i].ErrorCode)
			}
		}
	case *kmsg.AlterUserSCRAMCredentialsResponse:
		for i := range r.Results {
			add("USER", r.Results[i].User, "", r.Results[i].ErrorCode)
		}
	case *kmsg.DeleteGroupsResponse:
		for i := range r.Groups {
			add("GROUP", r.Groups[i].Group, "", r.Groups[i].ErrorCode)
		}
	case *kmsg.OffsetDeleteResponse:
		add("GROUP", req.(*kmsg.OffsetDeleteRequest).Group, "offsets", r.ErrorCode)
	case *kmsg.WriteTxnMarkersResponse:
		for i := range r.Markers {
			add("PRODUCER", fmt.Sprint(r.Markers[i].ProducerID), "", worst(r.Markers[i].Topics,
				func(t *kmsg.WriteTxnMarkersResponseMarkerTopic) []kmsg.WriteTxnMarkersResponseMarkerTopicPartition {
					return t.Partitions
				},
				func(p *kmsg.WriteTxnMarkersResponseMarkerTopicPartition) int16 { return p.ErrorCode }))
		}
	case *kmsg.ElectLeadersResponse:
		for i := range r.Topics {
			t := &r.Topics[i]
			add("TOPIC", t.Topic, fmt.Sprintf("%d partitions", len(t.Partitions)),
				worstOf(t.Partitions, func(p *kmsg.ElectLeadersResponseTopicPartition) int16 { return p.ErrorCode }))
		}
		if len(r.Topics) == 0 {
			add("CLUSTER", acl.ClusterName, "all partitions", r.ErrorCode)
		}
	case *kmsg.AlterPartitionAssignmentsResponse:
		for i := range r.Topics {
			t := &r.Topics[i]
			add("TOPIC", t.Topic, fmt.Sprintf("%d partitions", len(t.Partitions)),
				worstOf(t.Partitions, func(p *kmsg.AlterPartitionAssignmentsResponseTopicPartition) int16 { return p.ErrorCode }))
		}
	case *kmsg.AlterReplicaLogDirsResponse:
		for i := range r.Topics {
			t := &r.Topics[i]
			add("TOPIC", t.Topic, fmt.Sprintf("%d partitions", len(t.Partitions)),
				worstOf(t.Partitions, func(p *kmsg.AlterReplicaLogDirsResponseTopicPartition) int16 { return p.ErrorCode }))
		}
	case *kmsg.UpdateFeaturesResponse:
		if q := req.(*kmsg.UpdateFeaturesRequest); !q.ValidateOnly {
			// Version 2 has no results, and a request fails as a whole in each.
			for i := range q.FeatureUpdates {
				add("FEATURE", q.FeatureUpdates[i].Feature, "", r.ErrorCode)
			}
			if len(q.FeatureUpdates) == 0 {
				add("CLUSTER", acl.ClusterName, "no feature", r.ErrorCode)
			}
		}
	}
	return out
}

// worstOf is the code of a list whose members have one each: that of the first that failed, else 0.
func worstOf[P any](list []P, code func(*P) int16) int16 {
	for i := range list {
		if c := code(&list[i]); c != 0 {
			return c
		}
	}
	return 0
}

// worst is worstOf over lists of lists.
func worst[T, P any](list []T, members func(*T) []P, code func(*P) int16) int16 {
	return worstOf(list, func(t *T) int16 { return worstOf(members(t), code) })
}
