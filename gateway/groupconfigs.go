package gateway

import (
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// ApplyGroupConfig gives a group's configs after an alteration; they are checked.
func ApplyGroupConfig(old map[string]string, alter *ConfigAlter) (map[string]string, error) {
	refuse := func(format string, args ...any) (map[string]string, error) {
		return nil, &span.RejectedError{Code: wire.InvalidConfig, Detail: fmt.Sprintf(format, args...)}
	}
	out := map[string]string{}
	if !alter.Replace {
		maps.Copy(out, old)
	}
	for _, c := range alter.Changes {
		if c.Op == ConfigDelete {
			delete(out, c.Key) // one that there is not may be removed, as in Kafka
			continue
		}
		if coordinator.FindGroupConfig(c.Key) == nil {
			return refuse("Unknown group config name: %.100s", c.Key)
		}
		if c.Op != ConfigSet {
			return refuse("Can't append to or subtract from key %s because its type is not LIST.", c.Key)
		}
		out[c.Key] = c.Value
	}
	if err := coordinator.CheckGroupConfig(out); err != nil {
		return refuse("%v", err)
	}
	return out, nil
}

// groupConfigs describes the configs of a group.
func (call *call) groupConfigs(group string, show shown) []kmsg.DescribeConfigsResponseResourceConfig {
	var set map[string]string
	if g := call.g.watcher.Snapshot().GroupConfig(call.tenant, group); g != nil {
		set = g.Config
	}
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, k := range coordinator.GroupConfigKeys() {
		var levels []level
		if v, ok := set[k.Name]; ok {
			levels = append(levels, level{k.Name, v, kmsg.ConfigSourceGroupConfig})
		}
		levels = append(levels, level{k.Broker, k.Default, kmsg.ConfigSourceDefaultConfig})
		out = show.add(out, &ConfigKey{Name: k.Name, Type: ConfigInt, Doc: k.Doc}, levels)
	}
	return out
}
