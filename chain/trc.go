package chain

import "time"

func (p *Partition) trc(what string, args ...any) {
	p.l.log.Info("trc "+what, append([]any{"us", time.Now().UnixMicro(), "p", p.index, "topic", p.topic}, args...)...)
}
