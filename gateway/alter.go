package gateway

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// What AlterConfigs and IncrementalAlterConfigs have in common.
//
// Like Apache Kafka: topics and groups are altered, each resource by itself; a
// resource or a key that is given twice is refused, as is one that is not known.
//
// Differences: no broker config is dynamic, so none is set, and the removal of one
// changes nothing; log levels, and client metrics, which nobody collects, are
// refused. An operation that is not known is INVALID_REQUEST, where Kafka 4.3 says
// UNKNOWN_SERVER_ERROR.

// resource is what a request names.
type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

// onConfigs tells why configs of a resource may not be shown or changed.
func (call *call) onConfigs(o acl.Operation, r resource) error {
	code := wire.None
	switch r.kind {
	case kmsg.ConfigResourceTypeTopic:
		code = call.onTopic(o, r.name)
	case kmsg.ConfigResourceTypeGroupConfig:
		code = call.onGroup(o, r.name)
	default:
		code = call.onCluster(o)
	}
	if code != wire.None {
		return code
	}
	return nil
}

// alteration is what is asked of one resource.
type alteration struct {
	resource
	replace bool
	changes []ConfigChange
	err     error // found while the request was read
}

func (a *alteration) add(op ConfigOp, key string, value *string) {
	change := ConfigChange{Key: key, Op: op}
	switch {
	case op < ConfigSet || op > ConfigSubtract:
		a.refuse("Unknown operation %d", op)
	case value != nil:
		change.Value = *value
	case op != ConfigDelete:
		a.refuse("Null value not supported for : %.100s", key)
	}
	a.changes = append(a.changes, change)
}

func (a *alteration) refuse(format string, args ...any) {
	if a.err == nil {
		a.err = invalidRequest(format, args...)
	}
}

func invalidRequest(format string, args ...any) error {
	return &span.RejectedError{Code: wire.InvalidRequest, Detail: fmt.Sprintf(format, args...)}
}

// alterAll has each alteration done, some at the same time, and gives the
// answers in the order of the requests.
func (call *call) alterAll(asked []alteration, validateOnly bool, answer func(resource, wire.Code, *string)) {
	times := map[resource]int{}
	for i := range asked {
		times[asked[i].resource]++
	}
	each(len(asked), func(i int) {
		a := &asked[i]
		if times[a.resource] > 1 {
			a.err = invalidRequest("Each resource must appear at most once.")
		}
		if a.err == nil {
			a.err = call.onConfigs(acl.AlterConfigs, a.resource)
		}
		if a.err == nil {
			a.err = call.alter(a, validateOnly)
		}
	})
	if !validateOnly {
		// So that the next request on this connection sees the change.
		call.g.fresh.refresh(call.ctx)
	}
	for i := range asked {
		a := &asked[i]
		if a.err == nil {
			answer(a.resource, wire.None, nil)
			continue
		}
		code, message := call.refusal(a.err)
		answer(a.resource, wire.Code(code), message)
	}
}

// alter does one alteration.
func (call *call) alter(a *alteration, validateOnly bool) error {
	keys := make([]string, 0, len(a.changes))
	seen := map[string]bool{}
	for i := range a.changes {
		key := a.changes[i].Key
		if seen[key] {
			return invalidRequest("Error due to duplicate config keys: %.100s", key)
		}
		seen[key] = true
		keys = append(keys, key)
	}
	if err := call.g.splits(a); err != nil {
		return err
	}
	ctx, cancel := call.limited(0)
	defer cancel()
	alter := ConfigAlter{Tenant: call.tenant, Name: a.name, Replace: a.replace, Changes: a.changes, ValidateOnly: validateOnly}
	switch a.kind {
	case kmsg.ConfigResourceTypeTopic:
		return call.alterTopic(ctx, alter)
	case kmsg.ConfigResourceTypeGroupConfig:
		// What an earlier release took can still be changed, and removed.
		if err := checkGroupName(a.name); err != nil && (a.name == "" || call.g.watcher.Snapshot().GroupConfig(call.tenant, a.name) == nil) {
			return err
		}
		// A record each, whether there is such a group or not. As these requests know no refusal
		// for it, it is counted, and their client waits afterwards.
		if !validateOnly {
			if err := call.mutate(1, math.MaxInt16); err != nil {
				return err
			}
		}
		return call.g.admin.AlterGroupConfig(ctx, alter)
	case kmsg.ConfigResourceTypeBroker:
		if !a.replace && len(a.changes) > 0 && !slices.ContainsFunc(a.changes, func(c ConfigChange) bool { return c.Op != ConfigDelete }) {
			return nil // what is not set may be removed, as kafka-reassign-partitions does with throttles
		}
		return invalidRequest("Cannot update these configs dynamically: [%.200s]; they are set where the gateway is started", strings.Join(keys, ", "))
	case kmsg.ConfigResourceTypeBrokerLogger:
		return invalidRequest("Log levels are set where the gateway is started")
	case kmsg.ConfigResourceTypeClientMetrics:
		return invalidRequest("Client metrics are not collected")
	}
	return invalidRequest("Unknown resource type %d", a.kind)
}

func (call *call) alterTopic(ctx context.Context, alter ConfigAlter) error {
	if alter.Name == "" {
		return invalidRequest("Default topic resources are not allowed.")
	}
	if err := checkTopicName(alter.Name); err != nil {
		return err
	}
	return call.g.admin.AlterConfig(ctx, alter)
}

// splits tells why a change cannot be appended or subtracted, which Kafka looks
// at before the resource: only topics have configs that are lists.
func (g *Gateway) splits(a *alteration) error {
	if a.kind != kmsg.ConfigResourceTypeTopic && a.kind != kmsg.ConfigResourceTypeGroupConfig {
		return nil
	}
	for i := range a.changes {
		c := &a.changes[i]
		if c.Op != ConfigAppend && c.Op != ConfigSubtract {
			continue
		}
		if a.kind != kmsg.ConfigResourceTypeTopic || !slices.ContainsFunc(g.admin.ConfigKeys(), func(k ConfigKey) bool { return k.Name == c.Key && k.Type == ConfigList }) {
			return &span.RejectedError{Code: wire.InvalidConfig,
				Detail: fmt.Sprintf("Can't append to or subtract from key %.100s because its type is not LIST.", c.Key)}
		}
	}
	return nil
}

// maxGroupName bounds the names of groups that have configs, which are kept in the catalog. Groups
// themselves are in the coordinators' logs and have names as long as Kafka's.
const maxGroupName = 249

func checkGroupName(name string) error {
	if name == "" {
		return invalidRequest("Group name must not be empty")
	}
	if len(name) > maxGroupName {
		return &span.RejectedError{Code: wire.InvalidGroupID, Detail: fmt.Sprintf("Configs are kept for groups with names of at most %d bytes", maxGroupName)}
	}
	return nil
}
