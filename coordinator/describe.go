package coordinator

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// DescribeGroups, versions 0 to 6, as Apache Kafka 4.3: from version 6 on a group
// that is not there is GROUP_ID_NOT_FOUND (KIP-1043), before it is "Dead". Which
// operations the caller is authorised for is for the gateway to fill in.

// Types of groups as clients are shown them.
const (
	typeClassic  = "classic"
	typeConsumer = "consumer"
)

// DescribeGroups answers for each group; each may belong to another gateway.
func (c *Coordinator) DescribeGroups(ctx context.Context, caller Caller, req *kmsg.DescribeGroupsRequest) *kmsg.DescribeGroupsResponse {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	resp.Version = req.Version
	resp.Groups = each(ctx, c, caller.Tenant, req.Groups,
		func(m *machine, name string) kmsg.DescribeGroupsResponseGroup {
			return m.describe(groupKey{caller.Tenant, name}, req.Version)
		},
		func(name string, code wire.Code) kmsg.DescribeGroupsResponseGroup {
			g := kmsg.NewDescribeGroupsResponseGroup()
			g.Group, g.ErrorCode = name, int16(code)
			return g
		})
	return resp
}

// each runs one in the machine of each group, and waits until what it saw is
// durable. The answers are in the order of the names.
func each[T any](ctx context.Context, c *Coordinator, tenant string, names []string, one func(m *machine, name string) T, failed func(name string, code wire.Code) T) []T {
	type result struct {
		v    T
		code wire.Code
	}
	out := make([]T, len(names))
	ask := func(i int) {
		r := await(ctx, func(done func(result)) {
			code := c.within(tenant, names[i], func(m *machine) {
				v := one(m, names[i])
				m.durably(func() { done(result{v: v}) }, func(code wire.Code) { done(result{code: code}) })
			})
			if code != wire.None {
				done(result{code: code})
			}
		}, func() result { return result{code: wire.RequestTimedOut} })
		if out[i] = r.v; r.code != wire.None {
			out[i] = failed(names[i], r.code)
		}
	}
	var wg sync.WaitGroup
	workers := min(len(names), 16)
	for w := range workers {
		if workers == 1 {
			ask(0)
			break
		}
		wg.Go(func() {
			for i := w; i < len(names); i += workers {
				ask(i)
			}
		})
	}
	wg.Wait()
	return out
}

func (m *machine) describe(key groupKey, version int16) kmsg.DescribeGroupsResponseGroup {
	d := kmsg.NewDescribeGroupsResponseGroup()
	d.Group = key.group
	d.AuthorizedOperations = math.MinInt32
	g := m.groups[key]
	if g == nil || g.consumer != nil {
		d.State = "Dead"
		if version >= 6 {
			d.ErrorCode = int16(wire.GroupIDNotFound)
			why := "not found"
			if g != nil {
				why = "is not a classic group"
			}
			d.ErrorMessage = kmsg.StringPtr(fmt.Sprintf("Group %s %s.", key.group, why))
		}
		return d
	}
	d.State = g.state.String()
	if g.protocolType != nil {
		d.ProtocolType = *g.protocolType
	}
	if g.state == stateStable && g.protocol != nil {
		d.Protocol = *g.protocol
	}
	d.Members = make([]kmsg.DescribeGroupsResponseGroupMember, len(g.order))
	for i, mb := range g.order {
		dm := kmsg.NewDescribeGroupsResponseGroupMember()
		dm.MemberID, dm.InstanceID = mb.id, mb.instance
		dm.ClientID, dm.ClientHost = mb.clientID, mb.clientHost
		dm.MemberAssignment = mb.assignment
		dm.ProtocolMetadata = []byte{}
		if g.state == stateStable {
			dm.ProtocolMetadata = g.metadata(mb)
		}
		d.Members[i] = dm
	}
	return d
}

// ListGroups answers ListGroups, versions 0 to 5 (states: KIP-518, types:
// KIP-848), with the groups of the shards that this gateway has; clients ask
// every broker. While one of them is being replayed the answer is
// COORDINATOR_LOAD_IN_PROGRESS with the groups of the others.
func (c *Coordinator) ListGroups(_ context.Context, caller Caller, req *kmsg.ListGroupsRequest) *kmsg.ListGroupsResponse {
	resp := kmsg.NewPtrListGroupsResponse()
	resp.Version = req.Version
	states := make([]string, len(req.StatesFilter))
	for i, s := range req.StatesFilter {
		states[i] = strings.ToLower(strings.TrimSpace(s))
	}
	wanted := func(t string) bool {
		return len(req.TypesFilter) == 0 || slices.ContainsFunc(req.TypesFilter, func(f string) bool { return strings.EqualFold(f, t) })
	}
	classic, consumer := wanted(typeClassic), wanted(typeConsumer)
	if !classic && !consumer {
		return resp
	}
	for _, s := range c.owned() {
		code := s.do(func(m *machine) {
			for key, g := range m.groups {
				if key.tenant != caller.Tenant {
					continue
				}
				l := kmsg.NewListGroupsResponseGroup()
				l.Group, l.GroupState, l.GroupType = key.group, g.state.String(), typeClassic
				switch {
				case g.consumer != nil:
					l.GroupState, l.GroupType, l.ProtocolType = g.consumer.name(), typeConsumer, consumerType
				case g.protocolType != nil:
					l.ProtocolType = *g.protocolType
				}
				if len(states) > 0 && !slices.Contains(states, strings.ToLower(l.GroupState)) || l.GroupType == typeClassic && !classic || l.GroupType == typeConsumer && !consumer {
					continue
				}
				resp.Groups = append(resp.Groups, l)
			}
		})
		if code == wire.CoordinatorLoadInProgress {
			resp.ErrorCode = int16(code)
		}
	}
	return resp
}
