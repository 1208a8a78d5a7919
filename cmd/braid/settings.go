package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid/coordinator"
	"github.com/braidstream/braid/gateway"
)

// settings are what --set reaches: the configs of all roles of a process.
type settings struct {
	Gateway     gateway.Config
	Coordinator coordinator.Config
	CacheBytes  int64         // braid.cache.bytes
	HoldBytes   int64         // braid.hold.bytes
	HoldTime    time.Duration // braid.hold.ms
	Lease       time.Duration // braid.lease.ms
	Detection   time.Duration // braid.failure.detection.ms
	Certify     int64         // braid.certify.bytes; negative: none
	Memory      int64         // braid.memory.bytes: budget of each local cluster
	Tokens      tokenSettings
	AuditLog    string // braid.audit.log
	AuditTopic  string // braid.audit.topic: on, off, else auto
	// MaxTopics and MaxPartitions bound tenants without a limit of their own; 0 is the default.
	MaxTopics, MaxPartitions, MaxGroups int64
	Everyone                            string // allow.everyone.if.no.acl.found of the default tenant when it is made: true, false, else as of process.lenient
}

func defaultSettings() settings {
	return settings{
		Gateway: gateway.Config{AutoCreateTopics: true, NumPartitions: 1},
		Lease:   6 * time.Second, Detection: 2500 * time.Millisecond,
	}
}

// setting is one key of --set.
type setting struct {
	key   string
	doc   string
	apply func(*settings, string) error
}

// knownSettings lists every key, sorted. docs/configuration.md shows them.
var knownSettings = sortedSettings(append([]setting{
	{"allow.everyone.if.no.acl.found", "everybody may do what no ACL of the resource speaks of: of tenant default when the catalog is made, afterwards braid tenant set says it (true where a listener lets clients in without authentication, and authorizer is auto)",
		func(s *settings, v string) error {
			if s.Everyone = strings.ToLower(v); s.Everyone != "true" && s.Everyone != "false" {
				return fmt.Errorf("want true or false, not %q", v)
			}
			return nil
		}},
	{"auto.create.topics.enable", "create a topic when a client asks for one that is not there (true)",
		boolean(func(s *settings) *bool { return &s.Gateway.AutoCreateTopics })},
	{"authorizer", "on: a tenant is guarded by ACLs also while it has none; auto: from its first ACL or super user on (auto)",
		func(s *settings, v string) error {
			if v != "on" && v != "auto" {
				return fmt.Errorf("want on or auto, not %q", v)
			}
			s.Gateway.Authorizer = v == "on"
			return nil
		}},
	{"braid.cache.bytes", "tail cache of each gateway (64 MiB)",
		integer(1<<20, 1<<40, func(s *settings) *int64 { return &s.CacheBytes })},
	{"braid.certify.bytes", "how much of a sealed span is read for its certificate, per partition; the rest goes by counts (256 MiB; 0: all does)",
		func(s *settings, v string) error {
			n, err := number(v, 0, 1<<50)
			if s.Certify = n; n == 0 {
				s.Certify = -1
			}
			return err
		}},
	{"braid.failure.detection.ms", "how long most gateways must see a cluster down before it is failed over (2500)",
		millis(func(s *settings) *time.Duration { return &s.Detection })},
	{"braid.hold.bytes", "appends that each gateway holds while chains change (64 MiB)",
		integer(1<<20, 1<<40, func(s *settings) *int64 { return &s.HoldBytes })},
	{"braid.hold.ms", "how long an append is held at most (30000)",
		millis(func(s *settings) *time.Duration { return &s.HoldTime })},
	{"braid.lease.ms", "lease of gateways and coordinator shards (6000)",
		millis(func(s *settings) *time.Duration { return &s.Lease })},
	{"braid.memory.bytes", "memory budget of each local cluster (64 MiB)",
		integer(16<<20, 1<<40, func(s *settings) *int64 { return &s.Memory })},
	{"connections.max.idle.ms", "close a connection that is silent for so long (600000)",
		millis(func(s *settings) *time.Duration { return &s.Gateway.IdleTimeout })},
	{"fetch.max.bytes", "largest answer to a fetch (55 MiB)",
		integer(1024, 1<<30, func(s *settings) *int32 { return &s.Gateway.FetchMaxBytes })},
	{"group.consumer.assignment.interval.ms", "how long after one target assignment of a consumer group the next is computed (1000 in groups of more than 2,000 members and partitions, else 0)",
		func(s *settings, v string) error {
			n, err := number(v, 0, 1<<31-1)
			s.Coordinator.ConsumerAssignmentInterval = time.Duration(n) * time.Millisecond
			if n == 0 {
				s.Coordinator.ConsumerAssignmentInterval = -1 // at once
			}
			return err
		}},
	{"group.consumer.assignors", "assignors that members may ask for, the default first (uniform,range)",
		func(s *settings, v string) error {
			s.Coordinator.ConsumerAssignors = strings.Split(v, ",")
			return nil
		}},
	{"group.consumer.heartbeat.interval.ms", "how often members of consumer groups send heartbeats (5000)",
		millis(func(s *settings) *time.Duration { return &s.Coordinator.ConsumerHeartbeatInterval })},
	{"group.consumer.max.size", "members of a consumer group (no limit)",
		integer(1, 1<<31-1, func(s *settings) *int { return &s.Coordinator.ConsumerMaxSize })},
	{"group.consumer.migration.policy", "which groups may change their protocol with members in them: bidirectional, upgrade, downgrade or disabled (bidirectional)",
		func(s *settings, v string) error {
			s.Coordinator.ConsumerMigration = coordinator.MigrationPolicy(v)
			return nil
		}},
	{"group.consumer.session.timeout.ms", "a member of a consumer group that is silent for so long is removed (45000)",
		millis(func(s *settings) *time.Duration { return &s.Coordinator.ConsumerSessionTimeout })},
	{"group.initial.rebalance.delay.ms", "how long a new group waits for more members (3000)",
		func(s *settings, v string) error {
			n, err := number(v, 0, 1<<31-1)
			s.Coordinator.InitialRebalanceDelay = time.Duration(n) * time.Millisecond
			if n == 0 {
				s.Coordinator.InitialRebalanceDelay = -1 // none
			}
			return err
		}},
	{"group.max.session.timeout.ms", "longest session timeout (1800000)",
		millis(func(s *settings) *time.Duration { return &s.Coordinator.MaxSessionTimeout })},
	{"group.max.size", "members of a group (no limit)",
		integer(1, 1<<31-1, func(s *settings) *int { return &s.Coordinator.MaxGroupSize })},
	{"group.min.session.timeout.ms", "shortest session timeout (6000)",
		millis(func(s *settings) *time.Duration { return &s.Coordinator.MinSessionTimeout })},
	{"log.message.timestamp.after.max.ms", "how far ahead of the clock a record's time may be (3600000)",
		millis(func(s *settings) *time.Duration { return &s.Gateway.TimestampAfterMax })},
	{"log.message.timestamp.before.max.ms", "how far behind the clock a record's time may be (no limit)",
		millis(func(s *settings) *time.Duration { return &s.Gateway.TimestampBeforeMax })},
	{"max.connections", "connections of each gateway (100000, and no more than the process may open files)",
		integer(1, 10_000_000, func(s *settings) *int { return &s.Gateway.MaxConnections })},
	{"max.connections.per.ip", "connections from one address (no limit)",
		integer(1, 10_000_000, func(s *settings) *int { return &s.Gateway.MaxPerIP })},
	{"max.incremental.fetch.session.cache.slots", "fetch sessions of each gateway (10000)",
		integer(1, 10_000_000, func(s *settings) *int { return &s.Gateway.FetchSessions })},
	{"message.max.bytes", "largest record batch, where a topic sets none (1048588)",
		integer(1, 1<<30, func(s *settings) *int32 { return &s.Gateway.MaxMessageBytes })},
	{"num.partitions", "partitions of a topic that names no number (1)",
		integer(1, 10_000, func(s *settings) *int32 { return &s.Gateway.NumPartitions })},
	{"offset.metadata.max.bytes", "metadata of one committed offset (4096)",
		integer(1, 1<<20, func(s *settings) *int { return &s.Coordinator.OffsetMetadataMax })},
	{"offsets.retention.minutes", "how long offsets of an empty group are kept (10080)",
		func(s *settings, v string) error {
			n, err := number(v, 1, 1<<31-1)
			s.Coordinator.OffsetsRetention = time.Duration(n) * time.Minute
			return err
		}},
	{"braid.arriving.max.bytes", "memory of requests over 64 KiB that are still arriving, in bytes, of each gateway (half of queued.max.request.bytes)",
		integer(1<<20, 1<<40, func(s *settings) *int64 { return &s.Gateway.ArrivingBytes })},
	{"braid.tenant.max.topics", "topics of a tenant that has no limit of its own (20000)",
		integer(1, 1<<40, func(s *settings) *int64 { return &s.MaxTopics })},
	{"braid.tenant.max.partitions", "partitions of a tenant that has no limit of its own (200000)",
		integer(1, 1<<40, func(s *settings) *int64 { return &s.MaxPartitions })},
	{"braid.tenant.max.groups", "groups of a tenant that has no limit of its own, on each gateway (20000)",
		integer(1, 1<<40, func(s *settings) *int64 { return &s.MaxGroups })},
	{"braid.tenant.max.transactional.ids", "transactional ids of a tenant, on each gateway (20000)",
		integer(1, 1<<40, func(s *settings) *int64 { return &s.Coordinator.MaxTransactionalIDs })},
	{"braid.tenant.max.group.bytes", "memory that groups and transactional ids of a tenant without a limit of its own hold, in bytes, about, on each gateway (268435456)",
		integer(1<<10, 1<<40, func(s *settings) *int64 { return &s.Coordinator.MaxTenantBytes })},
	{"braid.request.min.rate", "bytes/s at which a request has to arrive, beside 30 s; slower ones end their connection (262144)",
		integer(1, 1<<40, func(s *settings) *int64 { return &s.Gateway.FrameRate })},
	{"queued.max.request.bytes", "requests being worked on, in bytes, of each gateway (512 MiB)",
		integer(1<<20, 1<<40, func(s *settings) *int64 { return &s.Gateway.InflightBytes })},
	{"socket.request.max.bytes", "largest request (100 MiB)",
		integer(1024, 1<<30, func(s *settings) *int32 { return &s.Gateway.MaxRequestBytes })},
	{"transaction.max.timeout.ms", "longest timeout that a transactional producer may ask for (900000)",
		func(s *settings, v string) error {
			n, err := number(v, 1, 1<<31-1)
			s.Coordinator.MaxTransactionTimeout = time.Duration(n) * time.Millisecond
			return err
		}},
	{"transactional.id.expiration.ms", "how long a transactional id that nobody uses is kept (604800000)",
		func(s *settings, v string) error {
			n, err := number(v, 1, 1<<31-1)
			s.Coordinator.TransactionalIDExpiration = time.Duration(n) * time.Millisecond
			return err
		}},
}, slices.Concat(securitySettings, auditSettings)...))

func sortedSettings(list []setting) []setting {
	slices.SortFunc(list, func(a, b setting) int { return strings.Compare(a.key, b.key) })
	return list
}

// readSettings applies --set to the defaults and checks the whole.
func readSettings(set map[string]string) (settings, error) {
	s := defaultSettings()
	var known []string
	for _, k := range knownSettings {
		known = append(known, k.key)
	}
	for _, key := range sorted(set) {
		i := slices.Index(known, key)
		if i < 0 {
			return s, aboutf("--set "+key, ": unknown config %q%s", key, didYouMean(key, known))
		}
		if err := knownSettings[i].apply(&s, strings.TrimSpace(set[key])); err != nil {
			return s, aboutf("--set "+key, ": %v", err)
		}
	}
	s.Gateway.ClusterID = "unset" // only known once the catalog answers; the rest is checked here
	if err := s.Gateway.Validate(); err != nil {
		return s, aboutf("--set", ": %v", err)
	}
	if err := s.Coordinator.Validate(); err != nil {
		return s, aboutf("--set", ": %v", err)
	}
	if err := s.Tokens.check(); err != nil {
		return s, err
	}
	if s.Lease < time.Second {
		return s, aboutf("--set braid.lease.ms", ": at least 1000")
	}
	return s, nil
}

func number(v string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("want a whole number, not %q", v)
	}
	if n < low || n > high {
		return 0, fmt.Errorf("%d is out of range: %d to %d", n, low, high)
	}
	return n, nil
}

func integer[T int | int32 | int64](low, high int64, field func(*settings) *T) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := number(v, low, high)
		*field(s) = T(n)
		return err
	}
}

func millis(field func(*settings) *time.Duration) func(*settings, string) error {
	return func(s *settings, v string) error {
		n, err := number(v, 1, 1<<53)
		if err != nil {
			return err
		}
		*field(s) = time.Duration(min(n, int64(1<<63-1)/int64(time.Millisecond))) * time.Millisecond
		return nil
	}
}

func boolean(field func(*settings) *bool) func(*settings, string) error {
	return func(s *settings, v string) error {
		switch strings.ToLower(v) {
		case "true":
			*field(s) = true
		case "false":
			*field(s) = false
		default:
			return fmt.Errorf("want true or false, not %q", v)
		}
		return nil
	}
}
