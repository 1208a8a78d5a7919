package coordinator

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Config holds what the coordinators may be told. The zero value of a field
// means its default; names in comments are Kafka's.
type Config struct {
	MinSessionTimeout     time.Duration // group.min.session.timeout.ms (6 s)
	MaxSessionTimeout     time.Duration // group.max.session.timeout.ms (30 min)
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms (3 s); negative: none
	NewMemberJoinTimeout  time.Duration // how long a new member's first JoinGroup may be parked (5 min)
	MaxGroupSize          int           // group.max.size (no limit)
	OffsetMetadataMax     int           // offset.metadata.max.bytes (4096)
	OffsetsRetention      time.Duration // offsets.retention.minutes (7 days)
	ExpiryInterval        time.Duration // offsets.retention.check.interval.ms (10 min)
	CommitTimeout         time.Duration // offsets.commit.timeout.ms (5 s)

	ConsumerSessionTimeout    time.Duration // group.consumer.session.timeout.ms (45 s)
	ConsumerHeartbeatInterval time.Duration // group.consumer.heartbeat.interval.ms (5 s)
	ConsumerMaxSize           int           // group.consumer.max.size (no limit)
	// ConsumerAssignors is group.consumer.assignors (uniform, range); the first is the default.
	ConsumerAssignors []string
	ConsumerMigration MigrationPolicy // group.consumer.migration.policy (bidirectional)
	// ConsumerAssignmentInterval is how long after one target assignment of a group the next
	// is computed (group.consumer.assignment.interval.ms); negative: at once. The default is 1 s for
	// groups of more than 2,000 members and partitions together, and at once for others.
	ConsumerAssignmentInterval time.Duration
	RegexInterval              time.Duration // how long after one resolution of a group's regular expressions topics are looked at again (10 s)

	// PendingBytes bounds what one shard holds that its log has not taken yet
	// (32 MiB); beyond it requests get COORDINATOR_NOT_AVAILABLE.
	PendingBytes int
	// MaxRecordBytes bounds one record of a shard's log (8 MiB): a group whose
	// members' metadata does not fit is refused.
	MaxRecordBytes int
	// SnapshotBytes is how much a shard's log grows at least before it is
	// rewritten and trimmed (4 MiB); a large state waits for twice its own size.
	SnapshotBytes int64
	// SealedAge is for how long a part of a shard's log may lie in spans that were sealed, as
	// after a move, before the log is rewritten and trimmed however little it has grown (10 s).
	SealedAge                 time.Duration
	MaxTransactionTimeout     time.Duration // transaction.max.timeout.ms (15 min)
	TransactionalIDExpiration time.Duration // transactional.id.expiration.ms (7 days)
	// MaxTransactionalIDs bounds those of one tenant on this gateway (20,000): more get POLICY_VIOLATION.
	MaxTransactionalIDs int64
	// MaxTenantBytes bounds what groups and transactional ids of one tenant hold on this gateway, about (256 MiB).
	MaxTenantBytes int64
	// PoolSize bounds the transactions that one shard has open on one cluster that
	// runs transactions of its own (200).
	PoolSize int
	// ProducerIDBlock is how many producer ids are taken from the catalog at once (1000).
	ProducerIDBlock int64
}

func (c Config) withDefaults() Config {
	c.MinSessionTimeout = cmp.Or(c.MinSessionTimeout, 6*time.Second)
	c.MaxSessionTimeout = cmp.Or(c.MaxSessionTimeout, 30*time.Minute)
	c.InitialRebalanceDelay = cmp.Or(c.InitialRebalanceDelay, 3*time.Second)
	c.InitialRebalanceDelay = max(c.InitialRebalanceDelay, 0)
	c.NewMemberJoinTimeout = cmp.Or(c.NewMemberJoinTimeout, 5*time.Minute)
	c.MaxGroupSize = cmp.Or(c.MaxGroupSize, int(^uint32(0)>>1))
	c.OffsetMetadataMax = cmp.Or(c.OffsetMetadataMax, 4096)
	c.OffsetsRetention = cmp.Or(c.OffsetsRetention, 7*24*time.Hour)
	c.ExpiryInterval = cmp.Or(c.ExpiryInterval, 10*time.Minute)
	c.CommitTimeout = cmp.Or(c.CommitTimeout, 5*time.Second)
	c.ConsumerSessionTimeout = cmp.Or(c.ConsumerSessionTimeout, 45*time.Second)
	c.ConsumerHeartbeatInterval = cmp.Or(c.ConsumerHeartbeatInterval, 5*time.Second)
	c.ConsumerMaxSize = cmp.Or(c.ConsumerMaxSize, int(^uint32(0)>>1))
	if c.ConsumerAssignors == nil {
		c.ConsumerAssignors = []string{assignorUniform, assignorRange}
	}
	c.ConsumerMigration = cmp.Or(c.ConsumerMigration, MigrateBoth)
	c.RegexInterval = cmp.Or(c.RegexInterval, 10*time.Second)
	c.PendingBytes = cmp.Or(c.PendingBytes, 32<<20)
	c.MaxRecordBytes = cmp.Or(c.MaxRecordBytes, 8<<20)
	c.SnapshotBytes = cmp.Or(c.SnapshotBytes, 4<<20)
	c.SealedAge = cmp.Or(c.SealedAge, 10*time.Second)
	c.ProducerIDBlock = cmp.Or(c.ProducerIDBlock, 1000)
	c.MaxTransactionTimeout = cmp.Or(c.MaxTransactionTimeout, 15*time.Minute)
	c.TransactionalIDExpiration = cmp.Or(c.TransactionalIDExpiration, 7*24*time.Hour)
	c.MaxTransactionalIDs = cmp.Or(c.MaxTransactionalIDs, 20_000)
	c.MaxTenantBytes = cmp.Or(c.MaxTenantBytes, 256<<20)
	c.PoolSize = cmp.Or(c.PoolSize, 200)
	return c
}

// Validate tells what is wrong with the config.
func (c Config) Validate() error {
	var errs []error
	d := c.withDefaults()
	positive := func(name string, v int64) {
		if v <= 0 {
			errs = append(errs, fmt.Errorf("%s must be positive", name))
		}
	}
	positive("group.min.session.timeout.ms", int64(d.MinSessionTimeout))
	positive("new member join timeout", int64(d.NewMemberJoinTimeout))
	positive("group.max.size", int64(d.MaxGroupSize))
	positive("offset.metadata.max.bytes", int64(d.OffsetMetadataMax))
	positive("offsets.retention.minutes", int64(d.OffsetsRetention))
	positive("offsets.retention.check.interval.ms", int64(d.ExpiryInterval))
	positive("offsets.commit.timeout.ms", int64(d.CommitTimeout))
	positive("group.consumer.session.timeout.ms", int64(d.ConsumerSessionTimeout))
	positive("group.consumer.heartbeat.interval.ms", int64(d.ConsumerHeartbeatInterval))
	positive("group.consumer.max.size", int64(d.ConsumerMaxSize))
	positive("regular expression interval", int64(d.RegexInterval))
	if d.ConsumerSessionTimeout <= d.ConsumerHeartbeatInterval {
		errs = append(errs, fmt.Errorf("group.consumer.session.timeout.ms %v must be above group.consumer.heartbeat.interval.ms %v", d.ConsumerSessionTimeout, d.ConsumerHeartbeatInterval))
	}
	if len(d.ConsumerAssignors) == 0 {
		errs = append(errs, errors.New("group.consumer.assignors must not be empty"))
	}
	for _, name := range d.ConsumerAssignors {
		if name != assignorUniform && name != assignorRange {
			errs = append(errs, fmt.Errorf("group.consumer.assignors: there is no assignor %q, but %s and %s", name, assignorUniform, assignorRange))
		}
	}
	switch d.ConsumerMigration {
	case MigrateBoth, MigrateUp, MigrateDown, MigrateDisabled:
	default:
		errs = append(errs, fmt.Errorf("group.consumer.migration.policy is %q, must be one of %s, %s, %s, %s", d.ConsumerMigration, MigrateBoth, MigrateUp, MigrateDown, MigrateDisabled))
	}
	positive("pending bytes", int64(d.PendingBytes))
	positive("snapshot bytes", d.SnapshotBytes)
	positive("sealed age", int64(d.SealedAge))
	positive("producer id block", d.ProducerIDBlock)
	positive("transaction.max.timeout.ms", d.MaxTransactionTimeout.Milliseconds())
	positive("transactional.id.expiration.ms", d.TransactionalIDExpiration.Milliseconds())
	positive("transactional ids of a tenant", d.MaxTransactionalIDs)
	positive("bytes of groups of a tenant", d.MaxTenantBytes)
	positive("transaction pool size", int64(d.PoolSize))
	if d.OffsetMetadataMax > maxStringBytes/3 {
		// A UTF-16 unit takes up to 3 bytes.
		errs = append(errs, fmt.Errorf("offset.metadata.max.bytes is %d, must be at most %d", d.OffsetMetadataMax, maxStringBytes/3))
	}
	if d.MaxSessionTimeout < d.MinSessionTimeout {
		errs = append(errs, fmt.Errorf("group.max.session.timeout.ms %v is below group.min.session.timeout.ms %v", d.MaxSessionTimeout, d.MinSessionTimeout))
	}
	if d.MaxRecordBytes < 64<<10 || d.MaxRecordBytes > maxRecordLimit {
		errs = append(errs, fmt.Errorf("record limit is %d bytes, must be between %d and %d", d.MaxRecordBytes, 64<<10, maxRecordLimit))
	}
	return errors.Join(errs...)
}
