# SmtpSink - a back-end that does what a script tells it, right or wrong.
#
#   my $sink = SmtpSink->start(rcpt => ['250 ok', '550 5.1.1 unknown'], final => 'rst');
#   ... send mail through the proxy to $sink->addr ...
#   ok $sink->wait_count(1);
#   is $sink->txn(0)->{content}, $octets;
#
# It runs as a process of its own and keeps every transaction in files the test reads.
#
# A script gives, for each step, what to do; a list is used up one by one and its last entry stays.
# Steps: greeting ehlo helo starttls handshake mail rcpt data body final rset noop vrfy quit bdat unknown.
#   `body` comes while content is arriving, by DATA or BDAT, by default with its first octet (see `at`).
#   `bdat` is the reply to a chunk, `final` that to the last one or to the dot.
#   `ehlo_tls` is `ehlo` when TLS is on, if it is given; so is `mail_tls`.
#   `handshake` comes with the first octets of TLS; its `raw` leaves in clear, and unless `then` says how it
#   ends, TLS goes on.
#
# What to do:
#   '250 2.0.0 ok'        a reply ("\n" separates the lines of one with several)
#   'silent'              no reply, ever
#   'close'               close the connection
#   'rst'                 end it with RST
#   'unclean'             close it without a goodbye of TLS
#   { reply => '250 ok', ... } or { raw => "octets", ... } with any of
#       wait  => 'name'   first wait until the test calls release('name')
#       twice => 1        send it twice
#       then  => 'close' | 'rst' | 'unclean' | 'silent' | 'shutdown'    and after it do this
#       then  => 'goodbye'    that of TLS, and nothing more
#       part  => N        of the octets of a reply through TLS only so many, so that a record is cut; the
#                         others leave with what is done next
#       at    => N        (body) when N octets of content have come in
#       instead => 1      (body) and say nothing at the end of the content
#       endless => 1      repeat it until the peer goes away
#       deaf  => 1        read nothing more
#       drip  => 0.1      send it octet by octet, with so many seconds between them
#
# Other arguments: caps (list of EHLO words), path (a Unix socket instead of TCP), address ([::1]:0, say),
# bare_dot (also accept LF . LF as the end of data), any_data (DATA is answered by the script even
# without a recipient), max_read (octets taken at a time), slow
# (seconds it sleeps after each time), tls (what SinkTls's context() takes: STARTTLS is offered), implicit (with
# tls: from the first octet).
package SmtpSink;
use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::IP;
use IO::Socket::UNIX;
use JSON::PP ();
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY SOL_SOCKET SO_LINGER SOMAXCONN);
use TestUtil;

my %DEFAULT = (
	greeting => '220 sink.example ESMTP', helo => '250 sink.example', starttls => '220 2.0.0 go', mail => '250 2.1.0 Ok',
	rcpt => '250 2.1.5 Ok', data => '354 go ahead', final => '250 2.0.0 Ok: queued as SINK%d',
	bdat => '250 2.0.0 Ok', rset => '250 2.0.0 Ok', noop => '250 2.0.0 Ok',
	vrfy => '252 2.0.0 maybe', quit => '221 2.0.0 Bye', unknown => '502 5.5.1 unknown command',
);
my @CAPS = ('PIPELINING', 'SIZE 104857600', '8BITMIME', 'ENHANCEDSTATUSCODES', 'DSN', 'SMTPUTF8',
	'CHUNKING');

# ---- the test's side -----------------------------------------------------------------------

sub start
{
	my ($class, %script) = @_;
	my $self = bless { dir => temp_dir(), script => \%script, owner => $$, changes => 0 }, $class;

	$self->{address} = $script{path} ? "unix:$script{path}" : $script{address} // '127.0.0.1:0';
	$self->spawn;
	return $self;
}

# Listens again at the same address after stop(), with changes to its script. Records go on.
sub restart
{
	my ($self, %steps) = @_;

	$self->stop;
	%{ $self->{script} } = (%{ $self->{script} }, %steps);
	$self->spawn;
	return $self;
}

sub spawn
{
	my ($self) = @_;
	my $listen = listen_socket($self->{address});

	$self->{address} =~ s/:0\z/':' . $listen->sockport/e unless $listen->isa('IO::Socket::UNIX');
	pipe my $control, $self->{control} or die "pipe: $!";
	$self->{control}->autoflush(1);
	$self->{pid} = fork // die "fork: $!";
	if ($self->{pid} == 0) {
		close $self->{control};
		SmtpSink::Server->new($self, $listen, $control)->run;
		POSIX::_exit(0);
	}
	return;
}

sub listen_socket
{
	my ($address) = @_;
	my ($path) = $address =~ /^unix:(.*)/;

	unlink $path if defined $path;
	my $sock = defined $path
	    ? IO::Socket::UNIX->new(Local => $path, Listen => SOMAXCONN)
	    : $address =~ /^\[(.*)\]:(\d+)\z/
	    ? IO::Socket::IP->new(LocalHost => $1, LocalPort => $2, Listen => SOMAXCONN, ReuseAddr => 1)
	    : IO::Socket::INET->new(LocalAddr => $address, Proto => 'tcp', Listen => SOMAXCONN,
		ReuseAddr => 1);
	die "sink: listen $address: $!" unless $sock;
	return $sock;
}

sub addr { return $_[0]{address} }
sub port { return $_[0]{address} =~ /:(\d+)$/ ? $1 : undef }
sub dir { return "$_[0]{dir}" }

# Lets go what waits for this name, now or later.
sub release
{
	my ($self, $name) = @_;

	print { $self->{control} } "release $name\n";
	return;
}

# Replaces steps of the script from now on; returns when the sink has done it.
sub script
{
	my ($self, %steps) = @_;
	my $n = ++$self->{changes};

	@{ $self->{script} }{ keys %steps } = values %steps;
	print { $self->{control} } 'script ' . JSON::PP->new->ascii->canonical->encode(\%steps) . "\n";
	$self->wait_event(qr/^script $n$/m) or die "sink: no answer to a new script";
	return;
}

# What happened, one line each: "N open", "N read OCTETS", "N line MAIL FROM:<...>",
# "N reply ...", "N txn FILE", "N end eof|close|rst|quit"; of TLS "N tls VERSION new|resumed [name=..] [cert=..]",
# "N tls failed ...", "N goodbye".
sub events { return read_file("$_[0]{dir}/events") // '' }

sub wait_event
{
	my ($self, $pattern, $timeout) = @_;

	return wait_until { $self->events =~ $pattern } $timeout;
}

sub connections { my $n = () = $_[0]->events =~ /^\d+ open$/mg; return $n }

# The command lines of one connection (or of all).
sub commands
{
	my ($self, $conn) = @_;
	my $id = $conn // '\d+';

	return $self->events =~ /^$id line (.*)$/mg;
}

# All transactions that reached MAIL and have ended, in the order of their ends. Each has: mail, rcpt
# (lists of lines as sent, "FROM:<..> ..."), rcpt_ok (those we accepted), content (octets, dots
# unstuffed), wire (as they came), ended (accepted refused reset cut eof rst), conn, reply.
sub txns
{
	my ($self) = @_;

	return map { $self->read_txn($_) } $self->events =~ /^\d+ txn (\S+)$/mg;
}

# Those that have ended since the last call. Quick also with thousands.
sub new_txns
{
	my ($self) = @_;

	open my $in, '<:raw', "$self->{dir}/events" or return;
	seek $in, $self->{told} // 0, 0;
	local $/;
	my $events = (<$in> // '') =~ s/[^\n]*\z//r;
	$self->{told} += length $events;
	return map { $self->read_txn($_) } $events =~ /^\d+ txn (\S+)$/mg;
}

sub read_txn
{
	my ($self, $name) = @_;
	my $txn = JSON::PP::decode_json(read_file("$self->{dir}/$name.json"));

	$txn->{wire} = read_file("$self->{dir}/$name.wire") // '';
	$txn->{content} = $txn->{bdat} ? $txn->{wire} : unstuffed($txn->{wire});
	return $txn;
}

sub unstuffed
{
	my ($wire) = @_;

	$wire =~ s/(\A|\r\n)\./$1/g;
	return $wire;
}

sub txn { my ($self, $i) = @_; return ($self->txns)[$i] }
sub messages { return grep { $_->{ended} eq 'accepted' } $_[0]->txns }

# Messages accepted. Counted from the events, so that it is quick with thousands.
sub count { my $n = () = $_[0]->events =~ /^\d+ accepted /mg; return $n }

sub wait_count
{
	my ($self, $n, $timeout) = @_;

	return wait_until { $self->count >= $n } $timeout;
}

# Ends the process: its connections break and new ones are refused, until restart().
sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;

	local $?;
	kill 'KILL', $pid;
	waitpid $pid, 0;
	$self->{place} = keep_port($self->{address});
	return;
}

sub DESTROY
{
	my ($self) = @_;

	$self->stop if defined $self->{owner} && $self->{owner} == $$;
	return;
}

# ---- the process ---------------------------------------------------------------------------

package SmtpSink::Server;
use strict;
use warnings;
use IO::Select;
use SinkTls;
use TestUtil;
use Time::HiRes ();

sub new
{
	my ($class, $sink, $listen, $control) = @_;
	my $script = $sink->{script};
	my $caps = join "\n", 'sink.example', @{ $script->{caps} // \@CAPS };
	my $next = $sink->connections;
	my @txns = glob "$sink->{dir}/*.json";

	open my $events, '>>', "$sink->{dir}/events" or die;
	$events->autoflush(1);
	return bless { dir => "$sink->{dir}", listen => $listen, control => $control,
		events => $events, conns => {}, next => $next, txns => scalar @txns, released => {},
		changes => $sink->{changes}, replies => 0, bare_dot => $script->{bare_dot},
		any_data => $script->{any_data}, slow => $script->{slow}, max_read => $script->{max_read} // 262144,
		steps => { %DEFAULT, ehlo => "250 $caps", %$script }, used => {} }, $class;
}

sub event { my ($s, @words) = @_; print { $s->{events} } "@words\n"; return }

# The loop. It ends with the test: then the control pipe does.
sub run
{
	my ($s) = @_;
	my $control_fd = fileno $s->{control};

	$SIG{PIPE} = 'IGNORE';
	$s->{listen}->blocking(0);
	while (1) {
		my (@in, @out);
		for my $conn (values %{ $s->{conns} }) {
			push @in, $conn->{sock}
			    unless $conn->{deaf} || ($conn->{waiting} && length $conn->{in} > 1 << 20);
			push @out, $conn->{sock}
			    if !$conn->{drip} && (length $conn->{out} || $conn->{endless});
		}
		my @dripping = grep { $_->{drip} } values %{ $s->{conns} };
		my ($r, $w) = IO::Select::select(IO::Select->new($s->{listen}, $s->{control}, @in),
			IO::Select->new(@out), undef, @dripping ? 0.02 : 60);
		$s->drip($_) for @dripping;
		for my $sock (@{ $r // [] }) {
			my $fd = fileno $sock // next;
			if ($sock == $s->{listen}) { $s->got_client }
			elsif ($fd == $control_fd) { $s->got_control or return }
			else { $s->got_octets($s->{conns}{$fd}) if $s->{conns}{$fd} }
		}
		for my $sock (@{ $w // [] }) {
			my $fd = fileno $sock // next;
			$s->flush($s->{conns}{$fd}) if $s->{conns}{$fd};
		}
	}
}

sub got_client
{
	my ($s) = @_;

	while (my $sock = $s->{listen}->accept) {
		$sock->setsockopt(Socket::IPPROTO_TCP(), Socket::TCP_NODELAY(), 1)
		    unless $sock->isa('IO::Socket::UNIX');
		$sock->blocking(0);
		my $conn = { sock => $sock, id => ++$s->{next}, in => '', out => '', mode => 'command' };
		$s->{conns}{ fileno $sock } = $conn;
		$s->event($conn->{id}, 'open');
		if ($s->{steps}{implicit}) { $conn->{tls} = $s->new_tls }
		else { $s->act($conn, 'greeting') }
	}
	return;
}

sub got_control
{
	my ($s) = @_;

	sysread $s->{control}, $s->{control_in}, 65536, length($s->{control_in} //= '') or return 0;
	while ($s->{control_in} =~ s/\A(\w+) (.*)\n//) {
		my ($what, $arg) = ($1, $2);
		if ($what eq 'release') {
			$s->{released}{$arg} = 1;
			$s->resume($_) for grep { ($_->{waiting} // '') eq $arg } values %{ $s->{conns} };
		} else {
			my $steps = JSON::PP->new->decode($arg);
			$s->{steps}{$_} = $steps->{$_} for keys %$steps;
			delete $s->{used}{$_} for keys %$steps;
			delete $s->{context} if exists $steps->{tls};
			$s->event('script', ++$s->{changes});
		}
	}
	return 1;
}

sub got_octets
{
	my ($s, $conn) = @_;
	my $n = sysread $conn->{sock}, my $octets, $s->{max_read};

	if (!defined $n) {
		return if $!{EAGAIN} || $!{EINTR};
		return $s->end($conn, 'rst');
	}
	return $s->got_eof($conn) if $n == 0;
	$s->event($conn->{id}, 'read', $n);
	select undef, undef, undef, $s->{slow} if $s->{slow};
	return $s->got_sealed($conn, $octets) if $conn->{tls};
	$conn->{in} .= $octets;
	$s->process($conn);
	return;
}

# ---- TLS -----------------------------------------------------------------------------------

sub new_tls
{
	my ($s) = @_;

	$s->{context} //= SinkTls->context(%{ $s->{steps}{tls} });
	return SinkTls->new($s->{context});
}

# Sent like other output, but as it is: it is TLS's own.
sub put_sealed { my ($s, $conn) = @_; $conn->{out} .= $conn->{tls}->take; $s->flush($conn); return }

sub got_sealed
{
	my ($s, $conn, $octets) = @_;
	my $tls = $conn->{tls};

	$tls->feed($octets);
	$s->got_handshake($conn) or return unless $tls->is_up;
	$conn->{in} .= $tls->read;
	$s->put_sealed($conn);
	$s->process($conn);
	return if $conn->{dead} || !defined $tls->error;
	$s->event($conn->{id}, $tls->got_goodbye ? 'goodbye' : 'tls failed ' . $tls->error);
	$s->got_eof($conn);
	return;
}

# True when it is done.
sub got_handshake
{
	my ($s, $conn) = @_;
	my $tls = $conn->{tls};

	if (defined $s->peek('handshake') && !$conn->{began_tls}++) {
		$s->act($conn, 'handshake');
		return 0 if $conn->{dead} || $conn->{mode} eq 'silent';
	}
	my $rc = $tls->handshake;
	if ($rc < 0) {
		$s->event($conn->{id}, 'tls failed ' . $tls->error);
		$conn->{then} = 'unclean';
	}
	$s->event($conn->{id}, 'tls ' . $tls->describe) if $rc > 0;
	$s->put_sealed($conn);
	return 0 if $conn->{dead} || $rc <= 0;
	$s->act($conn, 'greeting') if $s->{steps}{implicit};
	return 1;
}

sub got_starttls
{
	my ($s, $conn) = @_;

	return $s->act($conn, 'unknown') if $conn->{tls} || !$s->{steps}{tls};
	$s->act($conn, 'starttls', undef, undef, sub {
		my ($reply) = @_;
		return if $reply !~ /^220/ || $conn->{dead};
		$conn->{tls} = $s->new_tls;
		$conn->{in} = '';
	});
	return;
}

# EHLO's words, and STARTTLS where it makes sense.
sub with_starttls
{
	my ($s, $conn, $do) = @_;

	return $do if ref $do || $do !~ /^250/ || !$s->{steps}{tls} || $conn->{tls};
	return "$do\nSTARTTLS";
}

# ---- commands ------------------------------------------------------------------------------

# The peer sends no more: what it sent is still obeyed.
sub got_eof
{
	my ($s, $conn) = @_;

	$s->event($conn->{id}, 'eof');
	$s->end($conn, 'eof');
	return;
}

sub process
{
	my ($s, $conn) = @_;

	while (!$conn->{waiting} && !$conn->{dead}) {
		my $go = $conn->{mode} eq 'command' ? $s->process_command($conn)
		    : $conn->{mode} eq 'data' ? $s->process_data($conn)
		    : $conn->{mode} eq 'bdat' ? $s->process_bdat($conn)
		    : do { $conn->{in} = ''; 0 };	# silent: swallow
		last unless $go;
	}
	return;
}

sub process_command
{
	my ($s, $conn) = @_;

	$conn->{in} =~ s/\A([^\n]*)\n// or return 0;
	my $line = $1 =~ s/\r\z//r;
	$s->event($conn->{id}, 'line', $line);
	my ($verb, $rest) = $line =~ /\A(\S+)(?: (.*))?\z/ ? (lc $1, $2 // '') : ('unknown', '');
	my $method = "got_$verb";
	if ($s->can($method) && $verb =~ /\A(?:mail|rcpt|data|bdat|rset|ehlo|helo|quit|starttls)\z/) {
		$s->$method($conn, $rest);
	} else {
		$s->act($conn, $s->{steps}{$verb} ? $verb : 'unknown');
	}
	return 1;
}

# The step that is meant: some have another one for TLS.
sub through_tls
{
	my ($s, $conn, $step) = @_;

	return $conn->{tls} && $s->{steps}{"${step}_tls"} ? "${step}_tls" : $step;
}

sub got_ehlo
{
	my ($s, $conn) = @_;

	$s->txn_end($conn, 'reset');
	return $s->act($conn, $s->through_tls($conn, 'ehlo'));
}

sub got_helo { my ($s, $conn) = @_; $s->txn_end($conn, 'reset'); return $s->act($conn, 'helo') }
sub got_rset { my ($s, $conn) = @_; $s->txn_end($conn, 'reset'); return $s->act($conn, 'rset') }
sub got_quit { my ($s, $conn) = @_; return $s->act($conn, 'quit', 'quit') }

sub got_mail
{
	my ($s, $conn, $rest) = @_;

	$s->txn_end($conn, 'reset');
	$conn->{txn} = { conn => $conn->{id}, mail => $rest, rcpt => [], rcpt_ok => [], wire => '' };
	return $s->act($conn, $s->through_tls($conn, 'mail'));
}

sub got_rcpt
{
	my ($s, $conn, $rest) = @_;
	my $code = $s->act($conn, 'rcpt');

	push @{ $conn->{txn}{rcpt} }, $rest if $conn->{txn};
	push @{ $conn->{txn}{rcpt_ok} }, $rest if $conn->{txn} && $code =~ /^2/;
	return;
}

sub got_data
{
	my ($s, $conn) = @_;

	$conn->{txn} //= { conn => $conn->{id}, rcpt => [], rcpt_ok => [], wire => '' }
	    if $s->{any_data};
	return $s->say($conn, '554 5.5.1 no valid recipients')
	    unless $s->{any_data} || ($conn->{txn} && @{ $conn->{txn}{rcpt_ok} });
	my $code = $s->act($conn, 'data');
	return unless $code =~ /^3/ && $conn->{mode} eq 'command';
	$conn->{mode} = 'data';
	@$conn{qw(body_done no_final)} = (0, 0);
	$conn->{txn}{data} = 1;
	$conn->{tail} = "\r\n";
	return;
}

sub got_bdat
{
	my ($s, $conn, $rest) = @_;
	my ($size, $last) = $rest =~ /\A(\d+)( LAST)?\z/i or return $s->say($conn, '501 5.5.4 what?');

	$conn->{mode} = 'bdat';
	@$conn{qw(chunk last)} = ($size, $last);
	@$conn{qw(body_done no_final)} = (0, 0) unless $conn->{txn} && $conn->{txn}{bdat};
	$conn->{txn}{bdat} = 1 if $conn->{txn};
	return;
}

# Content up to CRLF . CRLF, at any split of the packets: `tail` is what came before.
sub process_data
{
	my ($s, $conn) = @_;

	return 0 unless length $conn->{in};
	my $txn = $conn->{txn};
	my $seen = $conn->{tail} . $conn->{in};
	my $end = $s->{bare_dot} ? qr/(?<=\n)\.\r?\n/ : qr/(?<=\r\n)\.\r\n/;
	if ($seen =~ $end) {
		my ($from, $to) = ($-[0], $+[0]);
		my $old = length $conn->{tail};
		$conn->{in} = substr $seen, $to;
		$txn->{wire} .= substr $seen, $old, $from - $old if $from > $old;
		substr($txn->{wire}, $from - $old) = '' if $from < $old;
		$s->body_step($conn);
		return 1 if $conn->{dead};
		$conn->{mode} = 'command' if $conn->{mode} eq 'data';
		return 1 if $conn->{mode} ne 'command';
		$conn->{no_final} ? $s->txn_end($conn, 'refused') : $s->final($conn);
		return 1;
	}
	$txn->{wire} .= $conn->{in};
	$conn->{tail} = substr $seen, -4;
	$conn->{in} = '';
	$s->body_step($conn);
	return 0;
}

# The `body` step, once, when enough has come in.
sub body_step
{
	my ($s, $conn) = @_;
	my $do = $s->peek('body') // return;
	my $at = ref $do eq 'HASH' ? $do->{at} // 1 : 1;

	return if $conn->{body_done} || length $conn->{txn}{wire} < $at;
	$conn->{body_done} = 1;
	$conn->{no_final} = ref $do eq 'HASH' && $do->{instead};
	$s->act($conn, 'body');
	return;
}

sub process_bdat
{
	my ($s, $conn) = @_;
	my $piece = substr $conn->{in}, 0, $conn->{chunk}, '';

	$conn->{chunk} -= length $piece;
	if ($conn->{txn}) {
		$conn->{txn}{wire} .= $piece;
		$s->body_step($conn);
		return 0 if $conn->{dead} || $conn->{waiting} || $conn->{mode} ne 'bdat';
	}
	return 0 if $conn->{chunk} > 0;
	$conn->{mode} = 'command';
	if ($conn->{no_final}) {
		$s->txn_end($conn, 'refused') if $conn->{last};
		return 1;
	}
	if (!$conn->{txn} || !@{ $conn->{txn}{rcpt_ok} }) {
		$s->say($conn, '503 5.5.1 no valid recipients');
	} elsif ($conn->{last}) {
		$s->final($conn);
	} else {
		$s->act($conn, 'bdat');
	}
	return 1;
}

sub final
{
	my ($s, $conn) = @_;

	# Recorded before the reply leaves: who sees the reply finds the record.
	$s->act($conn, 'final', undef, sub {
		my ($reply) = @_;
		$conn->{txn}{reply} = $reply;
		$s->txn_end($conn, $reply =~ /^2/ ? 'accepted' : $reply =~ /^[345]/ ? 'refused' : 'cut');
	});
	return;
}

sub txn_end
{
	my ($s, $conn, $how) = @_;
	my $txn = delete $conn->{txn} or return;
	my $name = sprintf 'txn%05d', ++$s->{txns};
	my $wire = delete $txn->{wire};

	$txn->{ended} = $how;
	write_file("$s->{dir}/$name.wire", $wire);
	write_file("$s->{dir}/$name.json", JSON::PP::encode_json($txn));
	$s->event($conn->{id}, 'txn', $name);
	$s->event($conn->{id}, 'accepted', $name) if $how eq 'accepted';
	return;
}

# ---- actions -------------------------------------------------------------------------------

sub peek
{
	my ($s, $step) = @_;
	my $do = $s->{steps}{$step};

	return $do unless ref $do eq 'ARRAY';
	my $i = $s->{used}{$step} // 0;
	return $do->[$i > $#$do ? $#$do : $i];
}

# Does what the script says for a step; returns the reply ('' when there is none yet). $before is
# called with the reply before it is sent, $after behind it.
sub act
{
	my ($s, $conn, $step, $end, $before, $after) = @_;
	my $do = $s->peek($step) // '250 2.0.0 Ok';

	$s->{used}{$step}++;
	$do = $s->with_starttls($conn, $do) if $step eq 'ehlo';
	$do = $do =~ /\A(?:silent|close|rst|unclean|goodbye)\z/ ? { then => $do } : { reply => $do } unless ref $do;
	my %todo = (%$do, end => $end, before => $before, after => $after);
	$todo{raw} //= wire_reply($todo{reply}, ++$s->{replies}) if defined $todo{reply};
	if (defined $todo{wait} && !$s->{released}{ $todo{wait} }) {
		$conn->{waiting} = $todo{wait};
		$conn->{todo} = \%todo;
		$s->event($conn->{id}, 'waits', $todo{wait});
		return $todo{raw} // '';
	}
	return $s->perform($conn, \%todo);
}

sub resume
{
	my ($s, $conn) = @_;

	delete $conn->{waiting};
	$s->perform($conn, delete $conn->{todo});
	$s->process($conn);
	return;
}

sub perform
{
	my ($s, $conn, $todo) = @_;
	my $raw = $todo->{raw} // '';

	$todo->{before}->($raw) if $todo->{before};
	$raw .= $raw if $todo->{twice};
	$conn->{endless} = $raw if $todo->{endless};
	$conn->{drip} = $todo->{drip} if $todo->{drip};
	$conn->{deaf} = $todo->{deaf};
	$conn->{then} = $todo->{then} // $todo->{end};
	$conn->{out} .= delete $conn->{rest} // '';
	if ($raw ne '') {
		$s->event($conn->{id}, 'reply', $raw =~ s/\r?\n/ /gr =~ s/ +\z//r);
		$s->put($conn, $raw);
		$conn->{rest} = substr $conn->{out}, $todo->{part}, length $conn->{out}, ''
		    if length $conn->{out} > ($todo->{part} // length $conn->{out});
	}
	$s->flush($conn);
	$todo->{after}->($raw) if $todo->{after};
	return $raw;
}

# Through TLS when it is up.
sub put
{
	my ($s, $conn, $octets) = @_;

	return $conn->{out} .= $octets unless $conn->{tls} && $conn->{tls}->is_up;
	$conn->{tls}->write($octets);
	$conn->{out} .= $conn->{tls}->take;
	return;
}

sub say { my ($s, $conn, $text) = @_; return $s->perform($conn, { raw => "$text\r\n" }) }

# "250 a\nb" becomes "250-a\r\n250 b\r\n". %d is a running number.
sub wire_reply
{
	my ($text, $number) = @_;
	my ($code, $rest) = $text =~ /\A(\d{3}) ?(.*)\z/s or return "$text\r\n";
	my @lines = split /\n/, $rest =~ s/%d/$number/r, -1;

	@lines = ('') unless @lines;
	my $last = pop @lines;
	return join '', (map { "$code-$_\r\n" } @lines), "$code $last\r\n";
}

# The next octet, when its time has come.
sub drip
{
	my ($s, $conn) = @_;

	return if $conn->{dead} || Time::HiRes::time() < ($conn->{drip_at} // 0);
	$conn->{drip_at} = Time::HiRes::time() + $conn->{drip};
	syswrite $conn->{sock}, substr $conn->{out}, 0, 1, '';
	return if length $conn->{out};
	delete @$conn{qw(drip drip_at)};
	$s->flush($conn);
	return;
}

sub flush
{
	my ($s, $conn) = @_;

	return if $conn->{drip};
	$s->put($conn, $conn->{endless} x 64) if $conn->{endless} && !length $conn->{out};
	while (length $conn->{out}) {
		my $n = syswrite $conn->{sock}, $conn->{out};
		return $!{EAGAIN} ? undef : $s->end($conn, 'rst') unless defined $n;
		substr($conn->{out}, 0, $n) = '';
	}
	return if $conn->{endless};
	my $then = delete $conn->{then} // return;
	return $s->end($conn, $then) if $then =~ /\A(?:close|rst|quit|unclean)\z/;
	$conn->{mode} = 'silent';
	$s->say_goodbye($conn) if $then =~ /\A(?:goodbye|shutdown)\z/;
	shutdown $conn->{sock}, 1 if $then eq 'shutdown';
	return;
}

# Of TLS. It is small, and nothing waits: the socket takes it.
sub say_goodbye
{
	my ($s, $conn) = @_;
	my $tls = $conn->{tls} // return;

	$tls->goodbye;
	syswrite $conn->{sock}, $tls->take;
	return;
}

sub end
{
	my ($s, $conn, $how) = @_;

	return if $conn->{dead}++;
	$s->say_goodbye($conn) if $how =~ /\A(?:close|quit)\z/;
	delete $s->{conns}{ fileno $conn->{sock} };
	$s->txn_end($conn, $how eq 'quit' ? 'reset' : $how =~ /close|unclean/ ? 'cut' : $how);
	$s->event($conn->{id}, 'end', $how);
	$conn->{sock}->setsockopt(Socket::SOL_SOCKET(), Socket::SO_LINGER(), pack 'ii', 1, 0)
	    if $how eq 'rst';
	close $conn->{sock};
	return;
}

1;
