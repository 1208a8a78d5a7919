package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// Options say how to reach a cluster and how much it may take of this process.
// Zero values stand for the defaults given here.
type Options struct {
	// Name is the cluster's name in the catalog.
	Name string
	// Bootstrap lists HOST:PORT of some brokers.
	Bootstrap []string
	// Config holds client options under Kafka's names; see [ConfigKeys].
	Config map[string]string
	// ClusterID, if set, is what the cluster must say its id is. Another cluster
	// behind the same addresses is refused.
	ClusterID string
	// ClientID is sent with every request; "braid".
	ClientID string

	// ProbeTopic names a topic that need not exist: whether the cluster grants
	// ALTER_CONFIGS is asked about it while no other is in use. It should have the
	// prefix of physical topics; "braid.probe".
	ProbeTopic string

	// ProduceConns is how many connections to a broker carry appends; 4.
	ProduceConns int
	// FetchConns is how many connections to a broker carry reads that return at
	// once, and as many again those that wait; 4.
	FetchConns int
	// Window is how many requests are under way on a produce connection; 3.
	Window int
	// RequestBytes is about how many bytes of batches one Produce request carries; 4 MiB.
	RequestBytes int
	// QueueBytes bounds the batches that wait or are under way; appends past it
	// end with span.ErrUnavailable; 256 MiB.
	QueueBytes int64
	// ReadBytes bounds the buffers of reads that were not released; reads past it
	// wait; 256 MiB.
	ReadBytes int64

	// AppendTimeout is for appends without a deadline; 30 s.
	AppendTimeout time.Duration
	// AwayAfter is how long the first appends wait for a cluster none of whose brokers answers,
	// before they end with span.ErrUnavailable or span.ErrUnknownOutcome. Those that follow do
	// not wait, until a broker answers again. 0: all wait until their deadlines.
	// A partition without a leader, of a cluster that answers, is waited for in the same manner,
	// for 4 s; with 0 until the deadlines.
	AwayAfter time.Duration
	// Dial connects to a broker's HOST:PORT, in place of plain TCP; TLS and SASL are done on
	// what it returns. It is called from several goroutines.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// DialTimeout bounds connecting, TLS and SASL together; 5 s.
	DialTimeout time.Duration
	// RequestTimeout bounds one control request to one broker; 5 s.
	RequestTimeout time.Duration
	// HealthTimeout bounds a health check; 1 s.
	HealthTimeout time.Duration
	// SlowRequest is how long a Produce request of several partitions may take
	// before each of them has to prove itself on a connection of its own; 1 s.
	SlowRequest time.Duration

	Logger *slog.Logger
}

func (o *Options) defaults() {
	setDefault(&o.ClientID, "braid")
	setDefault(&o.ProbeTopic, "braid.probe")
	setDefault(&o.ProduceConns, 4)
	setDefault(&o.FetchConns, 4)
	setDefault(&o.Window, 3)
	setDefault(&o.RequestBytes, 4<<20)
	setDefault(&o.QueueBytes, 256<<20)
	setDefault(&o.ReadBytes, 256<<20)
	setDefault(&o.AppendTimeout, 30*time.Second)
	setDefault(&o.DialTimeout, 5*time.Second)
	setDefault(&o.RequestTimeout, 5*time.Second)
	setDefault(&o.HealthTimeout, time.Second)
	setDefault(&o.SlowRequest, time.Second)
	if o.Dial == nil {
		o.Dial = overTCP
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

func (o *Options) validate() error {
	if o.Name == "" {
		return errors.New("a cluster needs a name")
	}
	if len(o.Bootstrap) == 0 {
		return fmt.Errorf("cluster %s: no bootstrap servers", o.Name)
	}
	for what, n := range map[string]int64{
		"produce connections": int64(o.ProduceConns), "fetch connections": int64(o.FetchConns), "window": int64(o.Window),
		"request bytes": int64(o.RequestBytes), "queue bytes": o.QueueBytes, "read bytes": o.ReadBytes,
		"append timeout": int64(o.AppendTimeout), "dial timeout": int64(o.DialTimeout), "request timeout": int64(o.RequestTimeout),
		"health timeout": int64(o.HealthTimeout), "slow request": int64(o.SlowRequest),
	} {
		if n < 1 {
			return fmt.Errorf("cluster %s: %s must be positive, got %d", o.Name, what, n)
		}
	}
	if o.AwayAfter < 0 {
		return fmt.Errorf("cluster %s: away after must not be negative, got %v", o.Name, o.AwayAfter)
	}
	if o.ProduceConns > 64 || o.FetchConns > 64 || o.Window > 64 {
		return fmt.Errorf("cluster %s: at most 64 connections of a kind and 64 requests under way", o.Name)
	}
	return nil
}
