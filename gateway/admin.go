package gateway

import (
	"context"

	"github.com/braidstream/braid/catalog"
)

// TopicAdmin changes topics: one implementation for Kafka's admin keys and for
// the admin API. All methods may be called concurrently and return when the
// change is in the catalog (with ValidateOnly: when it was checked, nothing
// changed).
//
// A refusal that is the caller's fault is a *span.RejectedError with Kafka's
// code (TOPIC_ALREADY_EXISTS, INVALID_CONFIG, INVALID_PARTITIONS, …) and a
// detail for people that holds no physical name. Any other error is mapped by
// the table in errors.go.
type TopicAdmin interface {
	// CreateTopic makes a topic of the tenant on the cluster that placement
	// chooses. Name and partition count were checked by the caller as Kafka
	// checks them; the implementation checks the configs.
	CreateTopic(ctx context.Context, spec TopicSpec) (catalog.Topic, error)
	// DeleteTopic removes the topic: after it returns no gateway that is up to
	// date serves it, and its name may be used anew.
	DeleteTopic(ctx context.Context, tenant string, id catalog.ID) error
	// GrowTopic raises the number of partitions to total.
	GrowTopic(ctx context.Context, spec GrowSpec) error
	// AlterGroupConfig changes the configs of a group, which need not exist;
	// ApplyGroupConfig says what becomes of them.
	AlterGroupConfig(ctx context.Context, alter ConfigAlter) error
	// AlterConfig changes the configs of a topic. Values that no topic may have are
	// refused first, then a topic that does not exist.
	AlterConfig(ctx context.Context, alter ConfigAlter) error
	// ConfigKeys lists the topic configs that exist, sorted by name. The result
	// is never changed.
	ConfigKeys() []ConfigKey
}

// TopicSpec asks for a topic.
type TopicSpec struct {
	Tenant     string
	Name       string
	Partitions int32 // > 0
	// ReplicationFactor as the client asked, -1 for the default. Clusters use
	// their own; it is kept out of the result.
	ReplicationFactor int16
	Config            map[string]string // Kafka's names and braid.*
	ValidateOnly      bool
}

// GrowSpec asks for more partitions.
type GrowSpec struct {
	Tenant       string
	Name         string
	Total        int32
	ValidateOnly bool
}

// ConfigAlter asks for a change of the configs of a topic or a group.
type ConfigAlter struct {
	Tenant string
	Name   string
	// Replace drops every config that Changes does not set (AlterConfigs);
	// otherwise they stay as they are (IncrementalAlterConfigs).
	Replace      bool
	Changes      []ConfigChange
	ValidateOnly bool
}

// ConfigChange is one step of a ConfigAlter. The values of Op are the wire's.
type ConfigChange struct {
	Key   string
	Op    ConfigOp
	Value string
}

// ConfigOp tells what to do with a config value.
type ConfigOp int8

// The operations of IncrementalAlterConfigs (KIP-339).
const (
	ConfigSet      ConfigOp = 0
	ConfigDelete   ConfigOp = 1 // back to the default
	ConfigAppend   ConfigOp = 2 // to a list
	ConfigSubtract ConfigOp = 3 // from a list
)

// ConfigKey describes one topic config.
type ConfigKey struct {
	Name string
	Type ConfigType
	// Default is the value when neither the topic nor the broker sets one.
	Default string
	// Broker is the name of the broker config that the topic's default comes
	// from (log.retention.ms for retention.ms); "" if there is none.
	Broker    string
	Doc       string
	Sensitive bool // the value is never shown
	ReadOnly  bool
}

// ConfigType is the type of a config value; the values are the wire's.
type ConfigType int8

// The types of DescribeConfigs (KIP-226, KIP-569).
const (
	ConfigBoolean  ConfigType = 1
	ConfigString   ConfigType = 2
	ConfigInt      ConfigType = 3
	ConfigShort    ConfigType = 4
	ConfigLong     ConfigType = 5
	ConfigDouble   ConfigType = 6
	ConfigList     ConfigType = 7
	ConfigClass    ConfigType = 8
	ConfigPassword ConfigType = 9
)
