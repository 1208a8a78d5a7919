package local

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// topicConfig is what the engine makes of a topic's configs. Names and defaults
// are Apache Kafka's, but for segment.bytes, where smaller files make retention
// finer at no cost. Configs that mean nothing here are kept and given back.
type topicConfig struct {
	maxMessage    int
	logAppendTime bool
	// How far a record's time may lie behind and ahead of the clock, ms; -1: no limit.
	beforeMax, afterMax int64
	segmentBytes        int64
	segmentMs           int64
	retentionMs         int64 // -1: unlimited
	retentionBytes      int64
	deletes             bool // cleanup.policy
	compacts            bool
	dirtyRatio          float64
	minLag, maxLag      int64 // ms
	deleteRetention     int64 // ms
	durability          durability
}

// durability is when an append is acknowledged.
type durability struct {
	sync bool          // after fdatasync
	lag  time.Duration // else fdatasync at the latest then; 0: when the system likes
}

const minSegmentBytes = 4 << 10

func parseConfig(raw map[string]string) (*topicConfig, error) {
	if len(raw) > maxConfigs {
		return nil, badConfig("", fmt.Errorf("%d configs, at most %d", len(raw), maxConfigs))
	}
	c := &topicConfig{
		maxMessage: 1048588, beforeMax: -1, afterMax: -1, segmentBytes: 256 << 20, segmentMs: 7 * 24 * 3600e3,
		retentionMs: 7 * 24 * 3600e3, retentionBytes: -1, deletes: true,
		dirtyRatio: 0.5, maxLag: math.MaxInt64, deleteRetention: 24 * 3600e3,
		durability: durability{sync: true},
	}
	for k, v := range raw {
		if len(k) > maxNameLength || len(v) > maxConfigValue {
			return nil, badConfig("", fmt.Errorf("name or value too long"))
		}
		var err error
		switch k {
		case "max.message.bytes":
			var n int64
			n, err = number(v, 0, math.MaxInt32)
			c.maxMessage = int(n)
		case "message.timestamp.type":
			c.logAppendTime = v == "LogAppendTime"
			if !c.logAppendTime && v != "CreateTime" {
				err = fmt.Errorf("neither CreateTime nor LogAppendTime")
			}
		case "message.timestamp.before.max.ms":
			c.beforeMax, err = limit(v)
		case "message.timestamp.after.max.ms":
			c.afterMax, err = limit(v)
		case "segment.bytes":
			c.segmentBytes, err = number(v, 14, math.MaxInt32)
			c.segmentBytes = max(c.segmentBytes, minSegmentBytes)
		case "segment.ms":
			c.segmentMs, err = number(v, 1, math.MaxInt64)
		case "retention.ms":
			c.retentionMs, err = number(v, -1, math.MaxInt64)
		case "retention.bytes":
			c.retentionBytes, err = number(v, -1, math.MaxInt64)
		case "min.compaction.lag.ms":
			c.minLag, err = number(v, 0, math.MaxInt64)
		case "max.compaction.lag.ms":
			c.maxLag, err = number(v, 1, math.MaxInt64)
		case "delete.retention.ms":
			c.deleteRetention, err = number(v, 0, math.MaxInt64)
		case "min.cleanable.dirty.ratio":
			c.dirtyRatio, err = strconv.ParseFloat(v, 64)
			if err == nil && !(c.dirtyRatio >= 0 && c.dirtyRatio <= 1) {
				err = fmt.Errorf("not between 0 and 1")
			}
		case "cleanup.policy":
			c.deletes, c.compacts = false, false
			for _, p := range strings.Split(v, ",") {
				switch strings.TrimSpace(p) {
				case "delete":
					c.deletes = true
				case "compact":
					c.compacts = true
				case "":
				default:
					err = fmt.Errorf("neither delete nor compact")
				}
			}
		case "braid.durability":
			c.durability, err = parseDurability(v)
		}
		if err != nil {
			return nil, badConfig(k, err)
		}
	}
	return c, nil
}

func parseDurability(v string) (durability, error) {
	switch {
	case v == "fsync":
		return durability{sync: true}, nil
	case v == "os":
		return durability{}, nil
	case strings.HasPrefix(v, "interval="):
		d, err := time.ParseDuration(strings.TrimPrefix(v, "interval="))
		if err != nil || d <= 0 {
			return durability{}, fmt.Errorf("no positive duration after interval=")
		}
		return durability{lag: d}, nil
	}
	return durability{}, fmt.Errorf("none of fsync, interval=DURATION, os")
}

func number(v string, lo, hi int64) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("not a number")
	}
	if n < lo || n > hi {
		return 0, fmt.Errorf("not between %d and %d", lo, hi)
	}
	return n, nil
}

// limit reads a number of ms, of which the largest means that there is no limit.
func limit(v string) (int64, error) {
	n, err := number(v, 0, math.MaxInt64)
	if n == math.MaxInt64 {
		n = -1
	}
	return n, err
}

func badConfig(name string, err error) error {
	return &span.RejectedError{Code: wire.InvalidConfig, Detail: fmt.Sprintf("config %s: %v", name, err)}
}

// Configs returns the names of the topic configs that decide something in this
// engine, sorted; others are kept and have no effect.
func Configs() []string {
	names := []string{"max.message.bytes", "message.timestamp.type", "message.timestamp.before.max.ms",
		"message.timestamp.after.max.ms", "segment.bytes", "segment.ms",
		"retention.ms", "retention.bytes", "min.compaction.lag.ms", "max.compaction.lag.ms",
		"delete.retention.ms", "min.cleanable.dirty.ratio", "cleanup.policy", "braid.durability"}
	slices.Sort(names)
	return names
}
