package coordinator

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// DeleteGroups answers DeleteGroups, versions 0 to 2, as Apache Kafka 4.3, for
// each group; each may belong to another gateway.
func (c *Coordinator) DeleteGroups(ctx context.Context, caller Caller, req *kmsg.DeleteGroupsRequest) *kmsg.DeleteGroupsResponse {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	resp.Version = req.Version
	result := func(name string, code wire.Code) kmsg.DeleteGroupsResponseGroup {
		g := kmsg.NewDeleteGroupsResponseGroup()
		g.Group, g.ErrorCode = name, int16(code)
		return g
	}
	resp.Groups = each(ctx, c, caller.Tenant, req.Groups,
		func(m *machine, name string) kmsg.DeleteGroupsResponseGroup {
			return result(name, m.deleteGroup(groupKey{caller.Tenant, name}))
		}, result)
	return resp
}

func (m *machine) deleteGroup(key groupKey) wire.Code {
	g := m.groups[key]
	switch {
	case g == nil:
		return wire.GroupIDNotFound
	case g.state != stateEmpty, g.consumer != nil && len(g.consumer.members) > 0:
		return wire.NonEmptyGroup
	}
	m.remove(g)
	return wire.None
}
