# MtaPostfix - a real Postfix with everything of its own below a temporary folder.
#
#   my $mta = MtaPostfix->new(recipe => 'content_filter');     # or 'proxy_filter', 'relayhost', 'transport',
#                                                              # or none: a back-end
#   my $proxy = TestProxy->start("... hosts @{[ $mta->return_addr ]} ...");
#   $mta->start(filter => $proxy->addr);
#   SmtpClient->connect($mta->addr)->send_message(...);
#   my ($message) = $mta->wait_messages(1);
#
# The recipes are the files of contrib/postfix; only ports are put in their place. It needs root, no
# network and no resolver, and delivers example.org (and all it takes) to a Maildir.
# Other arguments of new(): speed_adjust (0 or 1, proxy_filter), main (more lines of main.cf), relay
# (address: everything goes there instead of the Maildir), hostname.
package MtaPostfix;
use strict;
use warnings;
use TestUtil;

# Why it cannot run here, or nothing.
sub unavailable
{
	return 'needs root' unless is_root();
	return 'needs postfix' unless -x '/usr/sbin/postfix' && defined getpwnam 'postfix';
	return;
}

sub new
{
	my ($class, %opt) = @_;
	my $self = bless { %opt, dir => temp_dir(), owner => $$, addr => '127.0.0.1:' . free_port(),
		return_addr => '127.0.0.1:' . free_port() }, $class;

	$self->make_folders;
	return $self;
}

sub addr { return $_[0]{addr} }		# the public listener
sub return_addr { return $_[0]{return_addr} }	# where the filter gives mail back
sub dir { return "$_[0]{dir}" }
sub log { return read_file("$_[0]{dir}/log") // '' }

sub make_folders
{
	my ($self) = @_;
	my $dir = $self->{dir};
	my ($uid, $gid) = (getpwnam 'postfix')[2, 3];

	chmod 0755, "$dir";
	mkdir "$dir/$_" or die "mkdir $_: $!" for qw(etc spool data mail mail/inbox);
	chown $uid, $gid, "$dir/data", "$dir/mail", "$dir/mail/inbox";
	$self->{ids} = [$uid, $gid];
	return;
}

# A file of contrib/postfix with our ports in it, or nothing.
sub recipe_file
{
	my ($self, $which) = @_;
	my $text = read_file(srcdir() . "/contrib/postfix/$self->{recipe}.$which") // return '';

	$text =~ s/\[127\.0\.0\.1\]:10025/'[127.0.0.1]:' . ($self->{filter} =~ s{.*:}{}r)/ge;
	$text =~ s/127\.0\.0\.1:10025/$self->{filter}/g;
	$text =~ s/127\.0\.0\.1:10026/$self->{return_addr}/g;
	$text =~ s/^smtp(\s+inet)/$self->{addr}$1/m;
	$text =~ s{/etc/postfix/}{$self->{dir}/etc/}g;
	$text =~ s/^  -o smtpd_proxy_options=.*\n//m unless $self->{speed_adjust} // 1;
	return $text;
}

sub main_cf
{
	my ($self) = @_;
	my ($dir, $uid, $gid) = ($self->{dir}, @{ $self->{ids} });
	my $hostname = $self->{hostname} // 'mta.example';
	my $recipe = $self->{recipe} ? $self->recipe_file('main.cf') : '';
	# Nothing comes back to one that has a server behind Postern.
	my $relay = $self->{relay} ? 'relayhost = [127.0.0.1]:' . ($self->{relay} =~ s/.*://r)
	    : $recipe =~ /^(?:relayhost|transport_maps) =/m ? '' : <<"DELIVER";
virtual_mailbox_domains = static:yes
virtual_mailbox_maps = static:inbox/
virtual_mailbox_base = $dir/mail
virtual_mailbox_limit = 0
virtual_uid_maps = static:$uid
virtual_gid_maps = static:$gid
DELIVER

	return <<"MAIN" . $recipe . ($self->{main} // '');
compatibility_level = 3.6
queue_directory = $dir/spool
data_directory = $dir/data
maillog_file = $dir/log
maillog_file_prefixes = $dir
myhostname = $hostname
mydomain = example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
disable_dns_lookups = yes
smtp_dns_support_level = disabled
smtp_host_lookup = native
# no mail of its own to the postmaster: tests count messages
notify_classes =
smtpd_peername_lookup = no
smtputf8_enable = yes
biff = no
alias_maps =
alias_database =
local_recipient_maps =
message_size_limit = 104857600
mailbox_size_limit = 0
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
minimal_backoff_time = 2s
maximal_backoff_time = 5s
queue_run_delay = 1s
$relay
MAIN
}

sub master_cf
{
	my ($self) = @_;
	my $recipe = $self->{recipe} ? $self->recipe_file('master.cf') : '';
	my $public = $recipe =~ /^\Q$self->{addr}\E /m ? ''
	    : "$self->{addr} inet n - n - 100 smtpd\n";

	return <<"MASTER" . $public . $recipe . ($self->{master} // '');
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - 50 smtp
relay unix - - n - 50 smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
MASTER
}

# Starts it; filter is the address of the proxy that a recipe names.
sub start
{
	my ($self, %opt) = @_;
	my $dir = $self->{dir};

	$self->{filter} = $opt{filter} if $opt{filter};
	write_file("$dir/etc/main.cf", $self->main_cf, 0644);
	write_file("$dir/etc/master.cf", $self->master_cf, 0644);
	$self->write_transport if ($self->{recipe} // '') eq 'transport';
	$self->{pid} = start_process("$dir/console", '/usr/sbin/postfix', '-c', "$dir/etc", 'start-fg');
	$self->wait_ready;
	return $self;
}

# The map of contrib, with our port in it.
sub write_transport
{
	my ($self) = @_;
	my $file = "$self->{dir}/etc/transport";
	my $text = read_file(srcdir() . '/contrib/postfix/transport');

	$text =~ s/:10025$/':' . ($self->{filter} =~ s{.*:}{}r)/mge;
	write_file($file, $text, 0644);
	system("postmap -c $self->{dir}/etc hash:$file >>$self->{dir}/console 2>&1") == 0
	    or die "postmap failed:\n" . read_file("$self->{dir}/console");
	return;
}

sub wait_ready
{
	my ($self) = @_;
	my @addrs = ($self->{addr}, $self->master_cf =~ /^\Q$self->{return_addr}\E /m ? $self->{return_addr} : ());

	for my $addr (@addrs) {
		wait_port($addr, 20) or die "postfix does not listen at $addr:\n"
		    . read_file("$self->{dir}/console") . $self->log;
	}
	return;
}

sub wait_log
{
	my ($self, $pattern, $timeout) = @_;

	return wait_until { $self->log =~ $pattern } $timeout;
}

# Messages in the Maildir in the order they came, as octets with LF line ends. Postfix has put
# Return-Path, X-Original-To, Delivered-To and its Received lines in front.
sub messages
{
	my ($self) = @_;
	my @files = sort { (stat $a)[10] <=> (stat $b)[10] || $a cmp $b }
	    glob "$self->{dir}/mail/inbox/new/*";

	return map { read_file($_) } @files;
}

# Waits until N messages have arrived; returns them (fewer when the time is up).
sub wait_messages
{
	my ($self, $n, $timeout) = @_;

	wait_until { my @new = glob "$self->{dir}/mail/inbox/new/*"; @new >= $n } $timeout // 20;
	return $self->messages;
}

# The queue as postqueue prints it, and an attempt to deliver all of it now.
sub queue { my ($self) = @_; return scalar `postqueue -c $self->{dir}/etc -p 2>&1` }
sub flush { my ($self) = @_; system "postqueue -c $self->{dir}/etc -f 2>/dev/null"; return }
sub is_empty { return $_[0]->queue =~ /Mail queue is empty/ }

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;

	system "postfix -c $self->{dir}/etc abort >/dev/null 2>&1";
	stop_process($pid, 5);
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local $?;
	$self->stop if ($self->{owner} // 0) == $$;
	return;
}

1;
