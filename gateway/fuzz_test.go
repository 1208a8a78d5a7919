package gateway

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// Whatever a client sends, the gateway lives on, and what it allocates stays in
// proportion to what it received. The slack covers what the rest of the process
// allocates meanwhile.
func FuzzConnection(f *testing.F) {
	fl := newFleet(f, withConfig(func(c *Config) { c.AutoCreateTopics = false }))
	topic := fl.topic("fuzz", 2)
	fl.admin.fail = reject(wire.PolicyViolation, "no topics here")
	g := fl.gateways[0]
	for _, a := range servedAPIs() {
		for v := a.min; v <= a.max; v++ {
			req := kmsg.RequestForKey(a.key)
			req.SetVersion(v)
			switch r := req.(type) {
			case *kmsg.ProduceRequest:
				*r = *produceRequest("fuzz", topic.ID, -1, map[int32][]byte{0: records(f, nil, "v")})
			case *kmsg.FetchRequest:
				*r = *fetchRequest("fuzz", topic.ID, map[int32]int64{0: 0, 1: 0})
			case *kmsg.MetadataRequest:
				r.Topics = []kmsg.MetadataRequestTopic{{Topic: ptr("fuzz"), TopicID: topic.ID}}
			}
			req.SetVersion(v)
			f.Add(wire.AppendRequest(nil, 1, []byte("fuzz"), req))
		}
	}
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Add([]byte{0x16, 3, 1, 0, 0})
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		client, c, done, drained := pipeTo(g)
		_ = client.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_, err := client.Write(b)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			// A request that waits, as JoinGroup may; the connection's end ends it.
			t.Log("the gateway took no more")
		}
		_ = client.Close()
		// The reader may be in a long poll.
		select {
		case <-done:
		case <-time.After(50 * time.Millisecond):
			c.end(errClosed)
			<-done
		}
		<-drained
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(256*len(b))+32<<20 {
			t.Fatalf("%d bytes made it allocate %d", len(b), grown)
		}
	})
}

// pipeTo serves one end of a pipe as a client's connection, and throws away what is answered.
// done is closed when it is served no more, drained when the pipe is closed too.
func pipeTo(g *Gateway) (client net.Conn, c *conn, done, drained chan struct{}) {
	client, server := net.Pipe()
	g.mu.Lock()
	c = g.newConn(g.listeners[0], server)
	g.conns[c] = struct{}{}
	g.perIP[c.host]++
	g.mu.Unlock()
	g.metrics.connections.WithLabelValues(c.l.cfg.Name).Inc()
	done, drained = make(chan struct{}), make(chan struct{})
	go func() {
		c.serve()
		close(done)
	}()
	go func() {
		_, _ = io.Copy(io.Discard, client) // until either side closes
		close(drained)
	}()
	return client, c, done, drained
}
