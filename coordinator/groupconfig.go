package coordinator

import (
	"fmt"
	"strconv"
	"time"
)

// GroupConfigKey describes a config that can be set for one group (KIP-848).
// Without it the broker config of the name Broker holds.
type GroupConfigKey struct {
	Name     string
	Broker   string
	Default  string
	Doc      string
	Min, Max int64 // of a whole number
}

// Group configs by Kafka's names.
const (
	GroupHeartbeatInterval  = "consumer.heartbeat.interval.ms"
	GroupSessionTimeout     = "consumer.session.timeout.ms"
	GroupAssignmentInterval = "consumer.assignment.interval.ms"
)

// groupConfigKeys are sorted by name; bounds and defaults are Apache Kafka 4.3's.
var groupConfigKeys = []GroupConfigKey{
	{Name: GroupAssignmentInterval, Broker: "group.consumer.assignment.interval.ms", Default: "1000", Min: 0, Max: 15_000,
		Doc: "how long after one target assignment of a group the next is computed; without it that is at once in small groups"},
	{Name: GroupHeartbeatInterval, Broker: "group.consumer.heartbeat.interval.ms", Default: "5000", Min: 5000, Max: 15_000,
		Doc: "how often members of a group of the consumer protocol send heartbeats"},
	{Name: GroupSessionTimeout, Broker: "group.consumer.session.timeout.ms", Default: "45000", Min: 45_000, Max: 60_000,
		Doc: "a member of a group of the consumer protocol that is silent for so long is removed"},
}

// GroupConfigKeys lists the configs of groups by name; not to be changed.
func GroupConfigKeys() []GroupConfigKey { return groupConfigKeys }

// FindGroupConfig returns nil for a config that groups do not have.
func FindGroupConfig(name string) *GroupConfigKey {
	for i := range groupConfigKeys {
		if groupConfigKeys[i].Name == name {
			return &groupConfigKeys[i]
		}
	}
	return nil
}

// CheckGroupConfig tells what is wrong with a group's configs, nil if nothing is.
func CheckGroupConfig(config map[string]string) error {
	for i := range groupConfigKeys {
		k := &groupConfigKeys[i]
		v, set := config[k.Name]
		if !set {
			continue
		}
		if n, err := strconv.ParseInt(v, 10, 32); err != nil || n < k.Min || n > k.Max {
			return fmt.Errorf("invalid value %.40q for configuration %s: want a whole number from %d to %d", v, k.Name, k.Min, k.Max)
		}
	}
	if GroupMillis(config, GroupHeartbeatInterval) >= GroupMillis(config, GroupSessionTimeout) {
		return fmt.Errorf("%s must be greater than %s", GroupSessionTimeout, GroupHeartbeatInterval)
	}
	return nil
}

// GroupMillis is the value of a config in ms that a group has, set or by default.
func GroupMillis(config map[string]string, name string) time.Duration {
	k := FindGroupConfig(name)
	if k == nil {
		return 0
	}
	n, err := strconv.ParseInt(config[name], 10, 32)
	if err != nil {
		n, _ = strconv.ParseInt(k.Default, 10, 32) // the table's own: a number
	}
	return time.Duration(n) * time.Millisecond
}
