package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/braidstream/braid/catalog"
)

// Config holds what a gateway may be told. The zero value of a field means its
// default; names in comments are Kafka's, where it has one.
type Config struct {
	// ClusterID is what clients of the default tenant are told; required.
	ClusterID string

	// Authorizer guards every tenant. Without it a tenant is guarded once it has an
	// ACL or a super user. Of a lenient tenant only that is guarded which an ACL is about.
	Authorizer bool

	AutoCreateTopics bool  // auto.create.topics.enable
	NumPartitions    int32 // num.partitions (1)
	MaxMessageBytes  int32 // message.max.bytes (1 MiB + 12)
	// TimestampAfterMax bounds how far ahead of the clock a record may be,
	// log.message.timestamp.after.max.ms (1 h), before.max.ms (no limit).
	TimestampAfterMax  time.Duration
	TimestampBeforeMax time.Duration

	MaxRequestBytes   int32         // socket.request.max.bytes (100 MiB)
	MaxConnections    int           // max.connections (100,000)
	MaxPerIP          int           // max.connections.per.ip (no limit)
	IdleTimeout       time.Duration // connections.max.idle.ms (10 min)
	HandshakeTimeout  time.Duration // from accept to the first whole request (10 s)
	FrameTimeout      time.Duration // until more of a request whose start was received (30 s)
	FrameRate         int64         // bytes/s at which all of it has to come, beside FrameTimeout (256 KiB/s)
	RoomPatience      time.Duration // a tenant without anything among requests that arrive waits for so long until slow ones of others are ended (5 s)
	WriteTimeout      time.Duration // for a client that takes no answer (30 s)
	InflightPerConn   int           // requests of one connection that are being worked on (64)
	InflightConnBytes int64         // their bytes (32 MiB; one request may exceed it)
	InflightBytes     int64         // queued.max.request.bytes, over all connections (512 MiB)
	ArrivingBytes     int64         // of requests over 64 KiB that are not whole yet (half of InflightBytes); one may exceed it

	MaxUsers                int           // of a tenant, as far as its own administrators add them (10,000)
	MaxReauth               time.Duration // connections.max.reauth.ms (no limit): how long an authentication lasts
	AuthTimeout             time.Duration // from accept until a client is authenticated, where it has to be (30 s)
	FailedAuthDelay         time.Duration // connection.failed.authentication.delay.ms (100 ms): until the first failure is answered
	MaxFailedAuthDelay      time.Duration // until one of many is (5 s)
	MaxUnauthenticated      int           // connections that are not authenticated yet and have to be (8,192)
	MaxUnauthenticatedPerIP int           // those of one IPv4 address or IPv6 network (4,096)

	FetchMaxBytes      int32         // fetch.max.bytes (55 MiB)
	FetchSessions      int           // max.incremental.fetch.session.cache.slots (10,000)
	SessionPartitions  int           // partitions over all sessions (2,000,000)
	FetchMaxWait       time.Duration // what a client may wait at most (5 min)
	ReadTimeout        time.Duration // for one read of a partition (10 s)
	ProduceMaxTimeout  time.Duration // what a client's timeout is cut to (2 min)
	RequestTimeout     time.Duration // for calls that carry no timeout of their own (30 s)
	ReportEvery        time.Duration // how often it is looked at what tenants use that have a budget or a limit (2 s)
	MaxTopicPartitions int32         // max.request.partition.size.limit of DescribeTopicPartitions (2,000)
}

func (c *Config) withDefaults() Config {
	d := *c
	d.NumPartitions = cmp.Or(d.NumPartitions, 1)
	d.MaxMessageBytes = cmp.Or(d.MaxMessageBytes, 1<<20+12)
	d.TimestampAfterMax = cmp.Or(d.TimestampAfterMax, time.Hour)
	d.MaxRequestBytes = cmp.Or(d.MaxRequestBytes, 100<<20)
	d.MaxConnections = cmp.Or(d.MaxConnections, 100_000)
	d.IdleTimeout = cmp.Or(d.IdleTimeout, 10*time.Minute)
	d.HandshakeTimeout = cmp.Or(d.HandshakeTimeout, 10*time.Second)
	d.FrameTimeout = cmp.Or(d.FrameTimeout, 30*time.Second)
	d.RoomPatience = cmp.Or(d.RoomPatience, 5*time.Second)
	d.WriteTimeout = cmp.Or(d.WriteTimeout, 30*time.Second)
	d.InflightPerConn = cmp.Or(d.InflightPerConn, 64)
	d.InflightConnBytes = cmp.Or(d.InflightConnBytes, 32<<20)
	d.InflightBytes = cmp.Or(d.InflightBytes, 512<<20)
	d.ArrivingBytes = cmp.Or(d.ArrivingBytes, max(1, d.InflightBytes/2))
	d.FrameRate = cmp.Or(d.FrameRate, 256<<10)
	d.MaxUsers = cmp.Or(d.MaxUsers, catalog.MaxUsers)
	d.AuthTimeout = cmp.Or(d.AuthTimeout, 30*time.Second)
	d.FailedAuthDelay = cmp.Or(d.FailedAuthDelay, 100*time.Millisecond)
	d.MaxFailedAuthDelay = cmp.Or(d.MaxFailedAuthDelay, 5*time.Second)
	d.MaxUnauthenticated = cmp.Or(d.MaxUnauthenticated, 8192)
	d.MaxUnauthenticatedPerIP = cmp.Or(d.MaxUnauthenticatedPerIP, 4096)
	d.FetchMaxBytes = cmp.Or(d.FetchMaxBytes, 55<<20)
	d.FetchSessions = cmp.Or(d.FetchSessions, 10_000)
	d.SessionPartitions = cmp.Or(d.SessionPartitions, 2_000_000)
	d.FetchMaxWait = cmp.Or(d.FetchMaxWait, 5*time.Minute)
	d.ReadTimeout = cmp.Or(d.ReadTimeout, 10*time.Second)
	d.ProduceMaxTimeout = cmp.Or(d.ProduceMaxTimeout, 2*time.Minute)
	d.RequestTimeout = cmp.Or(d.RequestTimeout, 30*time.Second)
	d.ReportEvery = cmp.Or(d.ReportEvery, 2*time.Second)
	d.MaxTopicPartitions = cmp.Or(d.MaxTopicPartitions, 2000)
	return d
}

// Validate tells what is wrong with the config.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	d := c.withDefaults()
	if d.ClusterID == "" {
		bad("cluster id is empty")
	}
	if d.NumPartitions < 1 {
		bad("num.partitions is %d, must be at least 1", d.NumPartitions)
	}
	if d.MaxMessageBytes < 1 {
		bad("message.max.bytes is %d, must be at least 1", d.MaxMessageBytes)
	}
	if d.MaxRequestBytes < 1024 {
		bad("socket.request.max.bytes is %d, must be at least 1024", d.MaxRequestBytes)
	}
	if d.MaxMessageBytes > d.MaxRequestBytes {
		bad("message.max.bytes %d is more than socket.request.max.bytes %d", d.MaxMessageBytes, d.MaxRequestBytes)
	}
	for name, v := range map[string]time.Duration{
		"idle timeout": d.IdleTimeout, "handshake timeout": d.HandshakeTimeout, "frame timeout": d.FrameTimeout, "patience for room": d.RoomPatience,
		"write timeout": d.WriteTimeout, "read timeout": d.ReadTimeout, "request timeout": d.RequestTimeout,
		"authentication timeout": d.AuthTimeout, "time between reports": d.ReportEvery, "connections.max.reauth.ms": d.MaxReauth, "connection.failed.authentication.delay.ms": d.FailedAuthDelay,
	} {
		if v < 0 {
			bad("%s is %v, must be positive", name, v)
		}
	}
	if d.InflightPerConn < 1 || d.InflightBytes < 1 || d.InflightConnBytes < 1 || d.ArrivingBytes < 1 || d.FrameRate < 1 {
		bad("limits of requests in flight and of those that arrive must be positive")
	}
	return errors.Join(errs...)
}

// ListenerConfig is one address that clients connect to.
type ListenerConfig struct {
	// Name tells the networks apart (internal, external): a client is told the
	// addresses of the listener of this name, on every gateway that has it.
	Name string
	// Bind is host:port; port 0 takes a free one.
	Bind string
	// Listener is a socket that listens already; Bind is not used then. The
	// gateway owns it from New on.
	Listener net.Listener
	// Advertise is host:port as clients reach it; "" is the bound address.
	Advertise string
	// Zone of the clients that come in by it; "" is the gateway's.
	Zone string

	Security
}

// Record is the listener as the catalog keeps it, under an advertised address.
func (l *ListenerConfig) Record(advertise string) catalog.Listener {
	return catalog.Listener{Name: l.Name, Advertise: advertise, Zone: l.Zone,
		Security: l.Security.Protocol(), Mechanisms: l.Mechanisms, Tenant: l.Tenant, ServerNames: l.ServerNames}
}

func (l *ListenerConfig) validate() error {
	if l.Name == "" {
		return errors.New("listener without a name")
	}
	if err := l.Security.validate(l.Name); err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(l.Bind); err != nil && l.Listener == nil {
		return fmt.Errorf("listener %s: bind address: %w", l.Name, err)
	}
	if l.Advertise != "" {
		host, port, err := splitAddress(l.Advertise)
		if err != nil {
			return fmt.Errorf("listener %s: advertised address: %w", l.Name, err)
		}
		if host == "" || port == 0 {
			return fmt.Errorf("listener %s: advertised address %q needs a host and a port", l.Name, l.Advertise)
		}
	}
	return nil
}
