package gateway

import "github.com/braidstream/braid/catalog"

// Connections end when what they rest on goes: the user is removed, the
// credential that it signed on with is rotated, the tenant is deleted, or the certificate revoked. The
// watcher only says that something of the kind changed; the connections are
// looked at by a goroutine of the gateway's own, all of them, since such changes
// are rare and a look is two lookups.

// onChange is called by the watcher; it must not wait.
func (g *Gateway) onChange(ch catalog.Change) {
	g.topics.invalidate(ch.Topics)
	if len(ch.Shares)+len(ch.Tenants) > 0 || ch.Gateways {
		select {
		case g.divided <- struct{}{}:
		default:
		}
	}
	if len(ch.Users)+len(ch.Tenants) > 0 {
		g.revoke()
	}
}

// revoke has all connections looked at.
func (g *Gateway) revoke() {
	select {
	case g.revocations <- struct{}{}:
	default: // a look is coming, and takes the latest snapshot
	}
}

// keepRevoking ends connections until the gateway ends.
func (g *Gateway) keepRevoking() {
	for {
		select {
		case <-g.revocations:
		case <-g.ctx.Done():
			return
		}
		g.mu.Lock()
		conns := make([]*conn, 0, len(g.conns))
		for c := range g.conns {
			conns = append(conns, c)
		}
		g.mu.Unlock()
		for _, c := range conns {
			if !c.stands() {
				c.end(errRevoked)
			}
		}
	}
}
